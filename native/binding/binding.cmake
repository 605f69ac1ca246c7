# The Node addon. cmake-js calls CMake with CMAKE_JS_VERSION and the folders of the Node-API headers; without it the core
# builds alone.
file(GLOB binding_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
add_library(mixture_of_recursions MODULE ${binding_sources} ${CMAKE_JS_SRC})
set_target_properties(mixture_of_recursions PROPERTIES PREFIX "" SUFFIX ".node")
target_include_directories(mixture_of_recursions SYSTEM PRIVATE ${CMAKE_JS_INC})
mor_parse_once(mixture_of_recursions <algorithm> <memory> <string> <vector> <napi.h> <ops/ops.h>)
# Node's environment may end while a callback is about to throw: then there is nobody to throw to.
target_compile_definitions(mixture_of_recursions PRIVATE NAPI_VERSION=8 NAPI_CPP_EXCEPTIONS
  NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS)
target_link_libraries(mixture_of_recursions PRIVATE mor_checkpoint mor_engine mor_device ${CMAKE_JS_LIB})
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  # The C++ library is linked in, because that of the machine may be older than this compiler's. All symbols are looked up
  # when the addon is loaded: a missing one is an error then, and not the end of the process at its first use.
  set(exports ${CMAKE_CURRENT_LIST_DIR}/exports.map)
  target_link_options(mixture_of_recursions PRIVATE
    -static-libstdc++ -static-libgcc -Wl,--version-script=${exports} -Wl,-z,now)
  set_property(TARGET mixture_of_recursions APPEND PROPERTY LINK_DEPENDS ${exports})
  target_sources(mixture_of_recursions PRIVATE ${MOR_LIBC_ADDITIONS})  # set by scripts/prebuilt/toolchain.cmake
  # A worker thread of Node unloads the addon when it ends. The compute team's threads stay for the whole process
  # (core/team.h) and still run its code.
  target_link_options(mixture_of_recursions PRIVATE -Wl,-z,nodelete)
endif()
