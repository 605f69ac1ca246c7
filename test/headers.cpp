// The source that CMake needs to compile a precompiled header with.
