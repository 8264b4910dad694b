// SPDX-License-Identifier: MIT
#pragma once
// The ranks that work together, and how they do: all of them make the same calls in the same order. A
// call is a round (together()): before it sends anything the ranks compare what they were called with,
// and if one of them throws, all of them do.
#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/transport.hpp>  // Transport

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// What a rank throws because another one threw, or did not answer.
class RankError : public std::runtime_error {
 public:
  RankError(int rank, const std::string& sentence);
  [[nodiscard]] int rank() const { return rank_; }

 private:
  int rank_;
};

struct RanksOptions {
  // How long a rank waits for a sign of another before all give up.
  std::chrono::milliseconds patience{60'000};
};

// What this rank has sent and received, of data: what rounds say to each other at their begin and end
// is counted apart.
struct Traffic {
  Index messages_sent = 0, bytes_sent = 0, messages_received = 0, bytes_received = 0;
  Index control_messages_sent = 0;

  friend bool operator==(const Traffic&, const Traffic&) = default;
};

// A number that all ranks must have alike, and its name: {"E", 512}.
struct Term {
  std::string_view name;
  Index value;
};

class Ranks {
 public:
  explicit Ranks(std::unique_ptr<Transport> transport, RanksOptions options = {});

  [[nodiscard]] int rank() const;
  [[nodiscard]] int size() const;
  [[nodiscard]] const Traffic& traffic() const;
  void reset_traffic();

  // run() as one round of all ranks. Throws std::invalid_argument on every rank, before anything is
  // sent, if the ranks differ in `what` or in a term: it names two ranks and what each has. If run()
  // throws on a rank, that rank throws it on, and every other one a RankError with its number and its
  // sentence; what was under way is received and dropped, so the next round can begin. A rank that is
  // waited for longer than the patience: RankError, after which these ranks make no more rounds.
  // Rounds do not nest, except that one that begins in another of the same ranks is part of it.
  template <class Run>
  void together(std::string_view what, std::initializer_list<Term> terms, const Run& run);

  // The rest is called within a round.

  class Pending;  // a message under way: move-only, waited for by wait()
  [[nodiscard]] Pending send(int to, std::span<const std::byte> bytes);
  [[nodiscard]] Pending receive(int from, std::span<std::byte> bytes);
  // Throws RankError if a rank has failed, or lets wait too long.
  void wait(Pending& pending);
  void wait(std::span<Pending> pending);
  [[nodiscard]] bool is_done(Pending& pending);
  // Moves messages on; to be called now and then by who computes long.
  void progress();

  // Collective, and of data alone: nothing is added up here.
  template <class T>
  void broadcast(int root, std::span<T> values);
  // all: what every rank has, one after the other by ranks; counts[r] elements of rank r.
  template <class T>
  void all_gather(std::span<const T> mine, std::span<const Index> counts, std::span<T> all);
  template <class T>
  void gather(int root, std::span<const T> mine, std::span<const Index> counts, std::span<T> all);
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
