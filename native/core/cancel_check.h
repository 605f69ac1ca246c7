// CancelCheck: how long work is told to end.
#pragma once

#include <functional>

namespace mor {

/// Called before every tensor and chunk; what it throws ends the work.
using CancelCheck = std::function<void()>;

}  // namespace mor
