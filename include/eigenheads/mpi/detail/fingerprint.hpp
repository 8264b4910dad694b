// SPDX-License-Identifier: MIT
#pragma once
// A number for many, to compare between ranks what they were called with (a Term is one number).
#include <bit>
#include <cstdint>

#include <eigenheads/detail/float_bits.hpp>  // BitsOf
#include <eigenheads/detail/head_gates.hpp>  // HeadGates
#include <eigenheads/detail/head_set.hpp>    // HeadSet
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/dropout.hpp>      // DropoutMask
#include <eigenheads/mask.hpp>         // Mask
#include <eigenheads/mpi/dealing.hpp>  // Dealing

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class Fingerprint {  // FNV-1a, number by number
 public:
  void add(Index number) {
    value_ = (value_ ^ static_cast<std::uint64_t>(number)) * 0x100000001B3u;
    value_ ^= value_ >> 32;
  }
  void add(const ValidLens& lens) {
    add(lens.rank());
    if (lens.rank() == 0) return;
    add(lens.sequences());
    for (Index b = 0; b < lens.sequences(); ++b)
      for (Index q = 0; q < (lens.rank() == 2 ? lens.queries() : Index{1}); ++q)
        add(lens.length(b, q));
  }
  [[nodiscard]] Index value() const { return static_cast<Index>(value_ >> 1); }

 private:
  std::uint64_t value_ = 0xCBF29CE484222325u;
};

[[nodiscard]] inline Index fingerprint(const mpi::Dealing& dealing) {
  Fingerprint print;
  print.add(dealing.ranks());
  print.add(dealing.block_size());
  print.add(dealing.together());
  print.add(static_cast<Index>(dealing.deal()));
  print.add(dealing.is_padded() ? 1 : 0);
  for (const Index offset : dealing.sequences().offsets()) print.add(offset);
  return print.value();
}

// All that says which keys travel. Of single pairs (allowed) the shape alone: the bytes are as many
// as the pairs.
[[nodiscard]] inline Index fingerprint(const Mask& mask) {
  Fingerprint print;
  print.add(static_cast<Index>(mask.causal));
  for (const Index number : {mask.window.left, mask.window.right, mask.sinks}) print.add(number);
  for (const ValidLens* lens : {&mask.valid_lens, &mask.query_lens, &mask.key_lens,
                                &mask.first_positions, &mask.prefix_lens})
    print.add(*lens);
  for (const Index size : mask.allowed.shape()) print.add(size);
  return print.value();
}

// Which heads there are, what they read, and their gates: a sequence of which all are closed sends
// nothing.
template <class T>
[[nodiscard]] Index fingerprint(const HeadSet& heads, const HeadGates<T>& gates) {
  Fingerprint print;
  print.add(heads.original_count());
  print.add(heads.kv_count());
  for (const Index h : heads.originals()) print.add(h);
  for (const Index g : heads.kv_heads()) print.add(g);
  if (gates.are_one()) return print.value();
  print.add(gates.values().dimension(0));
  for (Index i = 0; i < gates.values().size(); ++i)
    print.add(static_cast<Index>(std::bit_cast<BitsOf<T>>(gates.values().data()[i])));
  return print.value();
}

// -1: nothing is dropped.
template <class T>
[[nodiscard]] Index fingerprint(const DropoutMask<T>& dropout) {
  if (dropout.threshold == 0) return -1;
  Fingerprint print;
  print.add(static_cast<Index>(dropout.threshold));
  print.add(static_cast<Index>(dropout.seed.value));
  return print.value();
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
