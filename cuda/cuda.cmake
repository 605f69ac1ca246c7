# The CUDA device: nvcc compiles cuda/**/*.cu to machine code for sm_80 (Ampere, Ada) and sm_90a (Hopper), and to PTX for
# later GPUs. The CUDA runtime is linked statically and looks for the driver when it is first called. This takes minutes:
# where neither MOR_CUDA=ON nor a driver asks for it, without_cuda.cpp is built instead. MOR_CUDA_ARCHITECTURES=90a-real
# builds one architecture only, for development.
find_program(MOR_NVCC nvcc HINTS /usr/local/cuda/bin DOC "The CUDA compiler")
set(cuda_default OFF)
if(MOR_NVCC AND EXISTS /proc/driver/nvidia/version)
  set(cuda_default ON)
endif()
option(MOR_CUDA "Build the CUDA device; unless given, where an NVIDIA driver and nvcc are" ${cuda_default})
set(MOR_CUDA_ARCHITECTURES "80-real;90a-real;90-virtual" CACHE STRING "What nvcc compiles for, as CMake names it")

if(MOR_CUDA)
  if(NOT MOR_NVCC)
    message(FATAL_ERROR "MOR_CUDA is ON, and nvcc was found neither on the PATH nor in /usr/local/cuda/bin. "
                        "Install the CUDA toolkit, or set MOR_CUDA=OFF")
  endif()
  set(CMAKE_CUDA_COMPILER ${MOR_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES ${MOR_CUDA_ARCHITECTURES})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cu ${CMAKE_CURRENT_LIST_DIR}/ops/*.cu)
  add_library(mor_cuda STATIC ${cuda_sources})
  # COMPILE_OPTIONS replaces those of the directory, which are the host compiler's and which nvcc does not know.
  set_target_properties(mor_cuda PROPERTIES
    CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF
    COMPILE_OPTIONS "-Xcompiler=-Wall,-Wextra,-Wno-psabi,-fvisibility=hidden,-fvisibility-inlines-hidden")
else()
  message(STATUS "Building without the CUDA device")
  add_library(mor_cuda STATIC ${CMAKE_CURRENT_LIST_DIR}/without_cuda.cpp)
endif()
target_include_directories(mor_cuda PUBLIC ${CMAKE_CURRENT_LIST_DIR}/.. ${CMAKE_CURRENT_LIST_DIR}/../native)
target_link_libraries(mor_cuda PUBLIC mor_core)
