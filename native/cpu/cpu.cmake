# The CPU device is compiled once per instruction set, each in a namespace of its own, and one is chosen when the program
# runs. Every copy is linked into one object whose other symbols are local: otherwise the linker could pick an inline
# function compiled for AVX-512 and call it on a machine that has none.
file(GLOB cpu_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
set(cpu_common ${CMAKE_CURRENT_LIST_DIR}/cpu_device.cpp)
list(REMOVE_ITEM cpu_sources ${cpu_common})

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(MOR_CPU_ISAS avx2 avx512 avx512_bf16)
  set(MOR_CPU_FLAGS_avx2 -march=x86-64-v3)
  set(MOR_CPU_FLAGS_avx512 -march=x86-64-v4 -mprefer-vector-width=512
    -Wno-maybe-uninitialized -Wno-uninitialized)  # GCC 12 warns inside its own AVX-512 headers
  # The AMX instructions come from intrinsics only, behind a test of the machine.
  set(MOR_CPU_FLAGS_avx512_bf16 ${MOR_CPU_FLAGS_avx512} -mavx512bf16 -mamx-tile -mamx-bf16)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(MOR_CPU_ISAS neon neon_bf16)
  set(MOR_CPU_FLAGS_neon -march=armv8-a)
  set(MOR_CPU_FLAGS_neon_bf16 -march=armv8.2-a+bf16)
else()
  message(FATAL_ERROR "The CPU device has kernels for x86_64 and aarch64 and none for ${CMAKE_SYSTEM_PROCESSOR}")
endif()

if(MOR_SANITIZE AND EXISTS /proc/cpuinfo)
  file(STRINGS /proc/cpuinfo processor_flags REGEX "^flags" LIMIT_COUNT 1)
endif()

set(cpu_objects)
foreach(isa ${MOR_CPU_ISAS})
  add_library(mor_cpu_${isa} OBJECT ${cpu_sources})
  target_include_directories(mor_cpu_${isa} PRIVATE ${CMAKE_SOURCE_DIR}/native)
  target_compile_definitions(mor_cpu_${isa} PRIVATE MOR_CPU_ISA=${isa})
  target_compile_options(mor_cpu_${isa} PRIVATE ${MOR_CPU_FLAGS_${isa}})
  mor_parse_once(mor_cpu_${isa} <algorithm> <cmath> <limits> <cpu/cpu_ops.h> <cpu/lanes.h>)
  set(objects $<FILTER:$<TARGET_OBJECTS:mor_cpu_${isa}>,EXCLUDE,[.]gch>)  # without the headers that are parsed once
  if(MOR_SANITIZE)
    # Tests run each copy that this processor can run. The others are only linked, so they compile quickly instead.
    if(isa MATCHES "^avx512" AND NOT processor_flags MATCHES "avx512vl" OR
       isa STREQUAL "avx512_bf16" AND NOT processor_flags MATCHES "avx512_bf16")
      target_compile_options(mor_cpu_${isa} PRIVATE -O0 -g0 -fno-sanitize=all)
    endif()
    list(APPEND cpu_objects ${objects})
  else()
    set(linked ${CMAKE_CURRENT_BINARY_DIR}/mor_cpu_${isa}.o)
    add_custom_command(OUTPUT ${linked}
      COMMAND ${CMAKE_LINKER} -r --force-group-allocation -o ${linked} ${objects}
      COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol=*make_cpu_ops* ${linked}
      DEPENDS mor_cpu_${isa} ${objects} COMMAND_EXPAND_LISTS VERBATIM)
    list(APPEND cpu_objects ${linked})
  endif()
endforeach()

add_library(mor_cpu STATIC ${cpu_common} ${cpu_objects})
target_include_directories(mor_cpu PUBLIC ${CMAKE_SOURCE_DIR}/native)
target_link_libraries(mor_cpu PUBLIC mor_core Threads::Threads)
