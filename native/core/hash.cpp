// Four chains of multiplications, which a processor computes at the same time.
#include "core/hash.h"

#include <cstring>

namespace mor {

namespace {

constexpr uint64_t kFactor = 0x9e3779b97f4a7c15;  // odd, so that no step loses anything of what came before
constexpr size_t kWord = sizeof(uint64_t), kChains = 4;

/// Another hash for every word, and another one for every hash.
uint64_t extended(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * kFactor;
  return hash ^ (hash >> 32);
}

/// Of `count` bytes, at most a word.
uint64_t word_at(const char* bytes, size_t count) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, count);
  return word;
}

}  // namespace

uint64_t hash_bytes(const void* bytes, size_t count, uint64_t before) {
  const char* next = static_cast<const char*>(bytes);
  uint64_t chains[kChains] = {before, before + 1, before + 2, before + 3};
  size_t left = count;
  for (; left >= kChains * kWord; left -= kChains * kWord, next += kChains * kWord)
    for (size_t i = 0; i < kChains; ++i) chains[i] = extended(chains[i], word_at(next + i * kWord, kWord));
  uint64_t hash = extended(before, count);
  for (const uint64_t chain : chains) hash = extended(hash, chain);
  for (; left >= kWord; left -= kWord, next += kWord) hash = extended(hash, word_at(next, kWord));
  if (left > 0) hash = extended(hash, word_at(next, left));
  return hash;
}

}  // namespace mor
