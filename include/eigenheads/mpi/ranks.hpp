// SPDX-License-Identifier: MIT
#pragma once
// The ranks that work together, and how they do: all of them make the same calls in the same order. A
// call is a round (together()): before it sends anything the ranks compare what they were called with,
// and if one of them throws, all of them do.
//   ranks.together("shift", {{"rows", rows}}, [&] {
//     auto sent = ranks.send(next, std::as_bytes(mine)), received = ranks.receive(previous, theirs);
//     ranks.wait(sent), ranks.wait(received);
//   });
// How a round fails. Whoever throws says stop to all others, with the number of data messages that it
// has sent to each; every wait looks for that, and answers by the same. So each rank knows what is to
// come: it receives and drops it, takes back receives that nothing will come for, and finishes what it
// sends. Then all tell all what they threw, and throw it on.
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/detail/control.hpp>   // Control
#include <eigenheads/mpi/detail/messages.hpp>  // Messages
#include <eigenheads/mpi/detail/pause.hpp>     // Pause
#include <eigenheads/mpi/rank_error.hpp>       // RankError
#include <eigenheads/mpi/traffic.hpp>          // Traffic
#include <eigenheads/mpi/transport.hpp>        // Transport

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

struct RanksOptions {
  // How long a rank waits for a message of another, or for it to begin or end the round, before all
  // give up: longer than one is ever behind another. At most a year.
  std::chrono::milliseconds patience{60'000};
};

// A number that all ranks must have alike, and its name: {"E", 512}.
struct Term {
  std::string_view name;
  Index value;
};

class Ranks {
 public:
  explicit Ranks(std::unique_ptr<Transport> transport, RanksOptions options = {});
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;
  ~Ranks();

  [[nodiscard]] int rank() const { return transport_->rank(); }
  [[nodiscard]] int size() const { return transport_->size(); }
  [[nodiscard]] const Traffic& traffic() const;
  void reset_traffic();

  // run() as one round of all ranks. Throws std::invalid_argument on every rank, before anything is
  // sent, if the ranks differ in `what` or in a term: it names two ranks and what each has. If run()
  // throws on a rank, that rank throws it on, and every other one a RankError with its number and its
  // sentence; what was under way is received and dropped, so the next round can begin. A rank that is
  // waited for longer than the patience: RankError, after which these ranks make no more rounds. If a
  // message cannot be taken back then, as a long send of MPI, the process is aborted a second later.
  // Rounds do not nest, except that one that begins in another of the same ranks is part of it.
  template <class Run>
  void together(std::string_view what, std::initializer_list<Term> terms, const Run& run) {
    if (in_round_) {
      run();
      return;
    }
    begin(what, {terms.begin(), terms.size()});
    try {
      run();
    } catch (const std::exception& exception) {
      fail(exception.what());
      throw;
    } catch (...) {
      fail("an exception that is no std::exception");
      throw;
    }
    end();
  }
  // Tells the others that this rank makes no more rounds: they throw a RankError with the sentence
  // instead of waiting for it. For a rank that leaves early, or by an exception outside a round.
  void leave(std::string_view sentence) noexcept;

  // The rest is called within a round.

  class Pending;
  // The bytes stay where they are, and those that are sent as they are, for as long as the Pending
  // lives: declare it after them.
  [[nodiscard]] Pending send(int to, std::span<const std::byte> bytes);
  [[nodiscard]] Pending receive(int from, std::span<std::byte> bytes);
  // Throws RankError if a rank has failed, or lets wait too long.
  void wait(Pending& pending);
  void wait(std::span<Pending> pending);
  [[nodiscard]] bool is_done(Pending& pending);
  // Moves messages on, and throws RankError if a rank has failed; to be called now and then by who
  // computes long.
  void progress();

  // Collective, and of data alone: nothing is added up here. T is trivially copyable.
  template <class T>
  void broadcast(int root, std::span<T> values);
  // all: what every rank has, one after the other by ranks; counts[r] elements of rank r. `mine` may
  // lie at its place in `all`.
  template <class T>
  void all_gather(std::span<const T> mine, std::span<const Index> counts, std::span<T> all);
  // `all` is of the root alone, and empty elsewhere.
  template <class T>
  void gather(int root, std::span<const T> mine, std::span<const Index> counts, std::span<T> all);

 private:
  void begin(std::string_view what, std::span<const Term> terms);
  void end();
  void fail(std::string_view sentence) noexcept;
  void close_round();

  [[nodiscard]] detail::ControlMessage await(int from, detail::Says says, detail::Pause& pause);
  [[nodiscard]] detail::ControlMessage await(int from, detail::Says says);
  void look();
  void require_round() const;
  void require_peer(int rank) const;
  void settle();
  void report(bool threw, std::string_view sentence);
  [[noreturn]] void give_up(int on);
  [[noreturn]] void give_up(int on, const std::string& what);
  [[noreturn]] void break_off(const detail::ControlMessage& gave_up);
  void let_go(int message) noexcept;
  template <class Call>
  void keep_what_it_throws(const Call& call) noexcept;
  void cancel() noexcept;

  std::unique_ptr<Transport> transport_;
  RanksOptions options_;
  detail::Control control_;
  detail::Messages messages_;
  mutable Traffic traffic_;
  bool in_round_ = false;
  // Of a round that has failed: nothing of it is under way any more; and the others know why.
  bool is_settled_ = false, is_reported_ = false;
  std::string mishap_;                // of this round, in a destructor, which cannot throw it
  std::optional<RankError> failure_;  // of this round, by another rank
  std::optional<RankError> broken_;   // for good
  RankError left_, silent_;  // what broken_ may become when there is no memory for a sentence
  // std::uncaught_exceptions() when these ranks were made, and when the round began.
  int exceptions_before_, exceptions_before_round_ = 0;
};

// A message under way: move-only, and waited for by wait(). One that is let go before it is done is
// waited for by its destructor. As an exception passes, that cannot be by waiting alone, since the
// other side may wait in turn: the round is ended there and then (settle()), which leaves no receive
// posted and nothing to send. On ranks that only hear of the failure that has happened before they
// throw, while all that they have on their stack is alive.
class Ranks::Pending {
 public:
  Pending() = default;
  Pending(Pending&& other) noexcept
      : ranks_(other.ranks_), message_(std::exchange(other.message_, detail::Messages::none)) {}
  Pending& operator=(Pending&& other) noexcept {
    if (this == &other) return *this;
    let_go();
    ranks_ = other.ranks_;
    message_ = std::exchange(other.message_, detail::Messages::none);
    return *this;
  }
  ~Pending() { let_go(); }

 private:
  friend Ranks;
  Pending(Ranks& ranks, int message) : ranks_(&ranks), message_(message) {}
  void let_go() noexcept {
    if (message_ != detail::Messages::none)
      ranks_->let_go(std::exchange(message_, detail::Messages::none));
  }

  Ranks* ranks_ = nullptr;
  int message_ = detail::Messages::none;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
#include <eigenheads/mpi/ranks.inl>
