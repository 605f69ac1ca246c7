// probes --device cuda:N --samples S --first I: what a GPU can do at most. It prints lines for bench/gpu/findings.ts.
#include "bench/gpu/probes/probes.h"

int main(int argc, char** argv) try {
  using namespace mor::bench;
  const GpuOptions options(argc, argv);
  return run_cases(options, {{"read and copy bandwidth", [&] { probe_bandwidth(options); }},
                             {"mma.sync", [&] { probe_mma_sync(options); }},
                             {"graph", [&] { probe_graph(options, false); }},
                             {"graph with programmatic dependent launch", [&] { probe_graph(options, true); }},
                             {"wgmma", [&] { probe_wgmma(options); }}});
} catch (const std::exception& error) {
  std::fprintf(stderr, "probes: %s\n", error.what());
  return 1;
}
