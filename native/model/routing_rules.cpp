// RoutingRules of a model's configuration.
#include "model/routing_rules.h"

#include "model/config.h"

namespace mor {

RoutingRules routing_rules(const ModelConfig& config) {
  RoutingRules rules;
  rules.num_recursions = config.num_recursions;
  rules.block_recurs = config.body_recursions() > 0;
  rules.router = config.router.type;
  rules.kv_cache = config.kv_cache;
  if (rules.router == RouterType::expert_choice)
    for (int32_t r = 1; r <= config.num_recursions; ++r) rules.runs_all.push_back(config.runs_all(r));
  return rules;
}

}  // namespace mor
