// A hash of bytes, fast enough for all weights of a model. It does not withstand somebody who wants a collision.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mor {

/// before: the hash of bytes that these follow. The same bytes in the same pieces have the same hash on every
/// little-endian machine; others have it with a probability of about 2^-64, and never if they differ in one piece of 8
/// bytes alone.
uint64_t hash_bytes(const void* bytes, size_t count, uint64_t before = 0);

}  // namespace mor
