# For CMake: compiles against the glibc 2.31 of MOR_SYSROOT (made by sysroot.sh) with this machine's compiler, or with that
# of another toolchain file, MOR_CROSS.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES MOR_SYSROOT MOR_CROSS)
if(MOR_CROSS)
  include(${MOR_CROSS})
endif()
set(CMAKE_SYSROOT ${MOR_SYSROOT})
# Otherwise the compiler would look for libraries beside its own first, and find the newer glibc there. The unwinder in
# its own libgcc_eh.a calls a function of glibc 2.35.
file(GLOB library_folders ${MOR_SYSROOT}/usr/lib/*-linux-gnu ${MOR_SYSROOT}/usr/lib/gcc/*-linux-gnu/*)
list(TRANSFORM library_folders PREPEND -B)
list(JOIN library_folders " " CMAKE_MODULE_LINKER_FLAGS_INIT)
# CMake tells nvcc nothing of CMAKE_SYSROOT, and tries its compiler with a program.
set(CMAKE_CUDA_FLAGS_INIT -Xcompiler=--sysroot=${MOR_SYSROOT})
set(CMAKE_EXE_LINKER_FLAGS_INIT "--sysroot=${MOR_SYSROOT} ${CMAKE_MODULE_LINKER_FLAGS_INIT}")
set(MOR_LIBC_ADDITIONS ${CMAKE_CURRENT_LIST_DIR}/libc_additions.cpp)
