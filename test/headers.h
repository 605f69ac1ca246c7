// What most tests include, for the precompiled header (test/CMakeLists.txt). Tests name their own includes, too.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "ops/ref/ref_ops.h"
