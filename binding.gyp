# For tools that know node-gyp only (prebuildify): hands the build to CMake, whose CMakeLists.txt is the only
# build description. The second output is never made, so that CMake decides what is out of date.
{
  'targets': [{
    'target_name': 'mixture_of_recursions',
    'type': 'none',
    'actions': [{
      'action_name': 'cmake',
      'inputs': ['CMakeLists.txt'],
      'outputs': ['<(PRODUCT_DIR)/mixture_of_recursions.node', '<(INTERMEDIATE_DIR)/always'],
      'action': [
        'npx', '--no-install', 'cmake-js', 'build',
        '--out', '<(module_root_dir)/build/cmake',
        '--CDCMAKE_LIBRARY_OUTPUT_DIRECTORY=<(module_root_dir)/build/Release',
      ],
    }],
  }],
}
