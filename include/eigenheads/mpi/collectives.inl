// SPDX-License-Identifier: MIT
// What all ranks do at once, of sends and receives. Each rank's part takes O(log size) messages in a
// broadcast, size - 1 in the others.
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>  // refuse

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

namespace detail {

// Where each rank's elements begin in all of them; the last is their number.
[[nodiscard]] inline std::vector<Index> offsets_of(std::span<const Index> counts) {
  std::vector<Index> offsets(counts.size() + 1);
  for (std::size_t r = 0; r < counts.size(); ++r) offsets[r + 1] = offsets[r] + counts[r];
  return offsets;
}

inline void require_parts(std::span<const Index> counts, const Ranks& ranks, std::size_t mine) {
  if (std::ssize(counts) != ranks.size())
    eigenheads::detail::refuse({"counts has ", std::ssize(counts), " numbers; expected ",
                                ranks.size(), ", one for each rank"});
  for (const Index count : counts)
    if (count < 0)
      eigenheads::detail::refuse({"counts has ", count, "; expected no negative number"});
  const Index own = counts[static_cast<std::size_t>(ranks.rank())];
  if (static_cast<Index>(mine) != own)
    eigenheads::detail::refuse({"rank ", ranks.rank(), " has ", mine, " elements; expected ", own});
}

template <class T>
void copy_part(std::span<const T> from, std::span<T> to) {
  if (from.data() != to.data()) std::copy(from.begin(), from.end(), to.begin());
}

}  // namespace detail

// By a binomial tree: whoever has the values sends them to the rank that is half of what it is
// responsible for further on, and is responsible for the first half from then on.
template <class T>
void Ranks::broadcast(int root, std::span<T> values) {
  static_assert(std::is_trivially_copyable_v<T>, "Only what can be sent as bytes is sent.");
  require_peer(root);
  const auto other = [&](int steps) { return ((rank() + steps) % size() + size()) % size(); };
  const int place = other(-root);  // among the ranks counted from the root on
  int responsible = 1;             // ranks from this one on; a power of 2
  if (place == 0) {
    while (responsible < size()) responsible *= 2;
  } else {
    while ((place & responsible) == 0) responsible *= 2;
    Pending received = receive(other(-responsible), std::as_writable_bytes(values));
    wait(received);
  }
  std::vector<Pending> sent;
  for (int half = responsible / 2; half > 0; half /= 2)
    if (place + half < size()) sent.push_back(send(other(half), std::as_bytes(values)));
  wait(sent);
}

// Round a ring: each rank hands to the next what it got from the one before.
template <class T>
void Ranks::all_gather(std::span<const T> mine, std::span<const Index> counts, std::span<T> all) {
  static_assert(std::is_trivially_copyable_v<T>, "Only what can be sent as bytes is sent.");
  detail::require_parts(counts, *this, mine.size());
  const std::vector<Index> offsets = detail::offsets_of(counts);
  if (std::ssize(all) != offsets.back())
    eigenheads::detail::refuse(
        {"all has ", all.size(), " elements; expected ", offsets.back(), ", those of all ranks"});
  const auto part = [&](int steps_back) {
    const auto r = static_cast<std::size_t>((rank() - steps_back + size()) % size());
    return all.subspan(static_cast<std::size_t>(offsets[r]), static_cast<std::size_t>(counts[r]));
  };
  detail::copy_part(mine, part(0));
  const int next = (rank() + 1) % size(), previous = (rank() + size() - 1) % size();
  for (int step = 0; step + 1 < size(); ++step) {
    Pending received = receive(previous, std::as_writable_bytes(part(step + 1)));
    Pending sent = send(next, std::as_bytes(part(step)));
    wait(received);
    wait(sent);
  }
}

template <class T>
void Ranks::gather(int root, std::span<const T> mine, std::span<const Index> counts,
                   std::span<T> all) {
  static_assert(std::is_trivially_copyable_v<T>, "Only what can be sent as bytes is sent.");
  require_peer(root);
  detail::require_parts(counts, *this, mine.size());
  if (rank() != root) {
    Pending sent = send(root, std::as_bytes(mine));
    wait(sent);
    return;
  }
  const std::vector<Index> offsets = detail::offsets_of(counts);
  if (std::ssize(all) != offsets.back())
    eigenheads::detail::refuse(
        {"all has ", all.size(), " elements; expected ", offsets.back(), ", those of all ranks"});
  std::vector<Pending> received;
  for (int from = 0; from < size(); ++from) {
    const auto r = static_cast<std::size_t>(from);
    const std::span<T> part =
        all.subspan(static_cast<std::size_t>(offsets[r]), static_cast<std::size_t>(counts[r]));
    if (from == rank()) {
      detail::copy_part(mine, part);
    } else {
      received.push_back(receive(from, std::as_writable_bytes(part)));
    }
  }
  wait(received);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
