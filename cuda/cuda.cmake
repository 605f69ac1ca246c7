# The CUDA device: cuda/**/*.cu by nvcc, as machine code for sm_80 (Ampere, Ada) and sm_90a (Hopper) and as PTX for what
# comes later; the CUDA runtime is linked statically and looks for the driver when it is first called.
# MOR_CUDA_ARCHITECTURES=80-real builds one architecture only, for development.
set(MOR_CUDA_ARCHITECTURES "80-real;90a-real;90-virtual" CACHE STRING "What nvcc compiles for, as CMake names it")
set(CMAKE_CUDA_ARCHITECTURES ${MOR_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)

file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cu ${CMAKE_CURRENT_LIST_DIR}/ops/*.cu)
add_library(mor_cuda STATIC ${cuda_sources})
target_include_directories(mor_cuda PUBLIC ${CMAKE_CURRENT_LIST_DIR}/.. ${CMAKE_CURRENT_LIST_DIR}/../native)
# COMPILE_OPTIONS replaces those of the directory, which are the host compiler's and which nvcc does not know.
set_target_properties(mor_cuda PROPERTIES
  CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF
  COMPILE_OPTIONS "-Xcompiler=-Wall,-Wextra,-Wno-psabi,-fvisibility=hidden,-fvisibility-inlines-hidden")
target_compile_definitions(mor_cuda PUBLIC MOR_CUDA)
target_link_libraries(mor_cuda PUBLIC mor_core)
