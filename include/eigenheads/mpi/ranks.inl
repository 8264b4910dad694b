// SPDX-License-Identifier: MIT
// How rounds begin, end and fail; the declarations and the protocol are in ranks.hpp.
#include <algorithm>
#include <cstdio>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>  // refuse

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

inline Ranks::Ranks(std::unique_ptr<Transport> transport, RanksOptions options)
    : transport_(std::move(transport)),
      // What is longer overflows in nanoseconds.
      options_{.patience = (std::min)(options.patience,
                                      std::chrono::milliseconds(std::chrono::hours(365 * 24)))},
      control_(*transport_),
      messages_(*transport_),
      left_(rank(), "eigenheads: rank " + std::to_string(rank()) + " has left its ranks"),
      silent_(rank(), "eigenheads: rank " + std::to_string(rank()) +
                          " could not tell the others of a failure"),
      exceptions_before_(std::uncaught_exceptions()) {}

inline Ranks::~Ranks() {
  if (std::uncaught_exceptions() > exceptions_before_) leave("an exception passes");
  try {
    detail::Pause pause(options_.patience);
    do control_.poll();
    while (!control_.is_sent() && !broken_ && pause());
  } catch (const std::exception&) {  // NOLINT: the transport is gone
  }
  if (broken_) cancel();
  control_.abandon();
}

inline const Traffic& Ranks::traffic() const {
  traffic_ = messages_.traffic();
  traffic_.control_messages_sent = control_.sent();
  return traffic_;
}
inline void Ranks::reset_traffic() {
  messages_.reset_traffic();
  control_.reset_sent();
}

// ---- Rounds --------------------------------------------------------------------------------------

namespace detail {

// What a rank was called with, as it is sent and as it is compared: the names in the text, a line each.
[[nodiscard]] inline ControlMessage call_message(std::string_view what,
                                                 std::span<const Term> terms) {
  ControlMessage message{.says = Says::begin, .numbers = {}, .text = std::string(what)};
  for (const Term& term : terms) {
    message.text.append("\n").append(term.name);
    message.numbers.push_back(term.value);
  }
  return message;
}

// A sentence, or nothing if the calls are alike.
[[nodiscard]] inline std::string difference(const ControlMessage& mine, int mine_rank,
                                            const ControlMessage& theirs, int their_rank) {
  const auto name = [](const ControlMessage& call, std::size_t line) {
    std::size_t begin = 0;
    for (; line > 0; --line) begin = call.text.find('\n', begin) + 1;
    return call.text.substr(begin, call.text.find('\n', begin) - begin);
  };
  const auto sentence = [&](const std::string& of, const std::string& one,
                            const std::string& other) {
    return "eigenheads: " + of + one + " on rank " + std::to_string(mine_rank) + " and " + other +
           " on rank " + std::to_string(their_rank) + "; expected the same on all ranks";
  };
  const std::string what = name(mine, 0);
  if (name(theirs, 0) != what) return sentence("the call is ", what, name(theirs, 0));
  const std::size_t count = (std::min)(mine.numbers.size(), theirs.numbers.size());
  for (std::size_t i = 0; i < count; ++i) {
    const auto term = [&](const ControlMessage& call) {
      return name(call, i + 1) + " = " + std::to_string(call.numbers[i]);
    };
    if (term(mine) != term(theirs)) return sentence(what + " has ", term(mine), term(theirs));
  }
  if (mine.numbers.size() == theirs.numbers.size()) return {};
  const auto terms = [](const ControlMessage& call) {
    return std::to_string(call.numbers.size()) + " terms";
  };
  return sentence(what + " has ", terms(mine), terms(theirs));
}

}  // namespace detail

inline void Ranks::begin(std::string_view what, std::span<const Term> terms) {
  using detail::ControlMessage, detail::Says;
  if (broken_) throw *broken_;
  messages_.begin_round();
  const ControlMessage mine = detail::call_message(what, terms);
  std::string sentence;
  if (rank() == 0) {
    detail::Pause pause(options_.patience);
    for (int from = 1; from < size(); ++from) {
      const ControlMessage theirs = await(from, Says::begin, pause);
      if (sentence.empty()) sentence = detail::difference(mine, 0, theirs, from);
    }
    control_.send_all({.says = Says::answer, .numbers = {}, .text = sentence});
  } else {
    control_.send(0, mine);
    sentence = await(0, Says::answer).text;
  }
  if (!sentence.empty()) throw std::invalid_argument(sentence);
  exceptions_before_round_ = std::uncaught_exceptions();
  in_round_ = true;
}

inline void Ranks::end() {
  using detail::Says;
  try {
    if (broken_) throw *broken_;
    if (messages_.is_any_under_way())
      eigenheads::detail::refuse<std::logic_error>(
          {"a message is still under way as the round of rank ", rank(),
           " ends; expected that it was waited for"});
    if (is_settled_ && mishap_.empty()) report(false, {});
    if (failure_) throw *failure_;
    if (!mishap_.empty()) throw std::runtime_error(mishap_);
    Index balance = messages_.balance();
    if (rank() == 0) {
      detail::Pause pause(options_.patience);
      for (int from = 1; from < size(); ++from)
        balance += await(from, Says::done, pause).numbers[0];
      control_.send_all({.says = Says::over, .numbers = {balance}, .text = {}});
    } else {
      control_.send(0, {.says = Says::done, .numbers = {balance}, .text = {}});
      balance = await(0, Says::over).numbers[0];
    }
    if (balance != 0) {
      const std::string text = "eigenheads: in a round that is over, " + std::to_string(balance) +
                               " more messages were sent than received; expected as many of both";
      broken_.emplace(0, text);
      throw std::logic_error(text);
    }
  } catch (const std::exception& exception) {
    fail(exception.what());
    throw;
  }
  close_round();
}

inline void Ranks::close_round() {
  in_round_ = is_settled_ = is_reported_ = false;
  failure_.reset();
  mishap_.clear();
}

// This rank throws what `sentence` says.
inline void Ranks::fail(std::string_view sentence) noexcept {
  if (!broken_)
    keep_what_it_throws([&] {
      settle();
      report(true, sentence);
    });
  close_round();
}

inline void Ranks::leave(std::string_view sentence) noexcept {
  if (broken_) return;
  broken_ = left_;
  keep_what_it_throws([&] {
    control_.send_all({.says = detail::Says::left, .numbers = {}, .text = std::string(sentence)});
  });
}

// Where nothing can be thrown, as another exception is on its way or a destructor asks.
template <class Call>
void Ranks::keep_what_it_throws(const Call& call) noexcept {
  try {
    call();
  } catch (const RankError&) {  // NOLINT: it is in failure_ or broken_
  } catch (const std::exception& exception) {
    broken_ = silent_;
    try {
      broken_.emplace(rank(), std::string(silent_.what()) + ": " + exception.what());
    } catch (const std::bad_alloc&) {  // NOLINT: then without the reason
      broken_ = silent_;
    }
  }
}

// ---- When a round fails --------------------------------------------------------------------------

// Ends what is under way, together with all other ranks.
inline void Ranks::settle() {
  using detail::ControlMessage, detail::Says;
  if (is_settled_) return;
  for (int to = 0; to < size(); ++to)
    if (to != rank())
      control_.send(to, {.says = Says::stop, .numbers = {messages_.sent_to(to)}, .text = {}});
  std::vector<Index> counts(static_cast<std::size_t>(size()));
  counts[static_cast<std::size_t>(rank())] = messages_.sent_to(rank());
  detail::Pause pause(options_.patience);
  for (int from = 0; from < size(); ++from)
    if (from != rank())
      counts[static_cast<std::size_t>(from)] = await(from, Says::stop, pause).numbers[0];
  pause.reset();
  Index gone = messages_.gone();
  for (int peer; (peer = messages_.drop(counts)) != detail::Messages::none;) {
    control_.poll();
    if (const ControlMessage* const gave_up = control_.gave_up()) break_off(*gave_up);
    if (gone != messages_.gone()) pause.reset();
    gone = messages_.gone();
    if (!pause()) give_up(peer);
  }
  is_settled_ = true;
}

// All tell all what they threw; failure_ is what the lowest of the others did.
inline void Ranks::report(bool threw, std::string_view sentence) {
  using detail::ControlMessage, detail::Says;
  if (is_reported_) return;
  control_.send_all(
      {.says = Says::report, .numbers = {threw ? 1 : 0}, .text = std::string(sentence)});
  detail::Pause pause(options_.patience);
  for (int from = 0; from < size(); ++from) {
    if (from == rank()) continue;
    const ControlMessage report = await(from, Says::report, pause);
    if (report.numbers[0] == 0 || failure_) continue;
    const std::string own = "eigenheads: ";
    const std::size_t begin = report.text.starts_with(own) ? own.size() : 0;
    failure_.emplace(from,
                     own + "rank " + std::to_string(from) + " threw: " + report.text.substr(begin));
  }
  is_reported_ = true;
  if (!threw && !failure_)
    failure_.emplace(rank(),
                     "eigenheads: an exception ended messages of the round, and was caught "
                     "within it; expected that it ends the round");
}

// These ranks make no more rounds, as this one has waited for longer than it would.
inline void Ranks::give_up(int on) {
  give_up(on, "gave no sign for " + std::to_string(options_.patience.count()) +
                  " ms, for which rank " + std::to_string(rank()) + " waited");
}
inline void Ranks::give_up(int on, const std::string& what) {
  const detail::ControlMessage message{.says = detail::Says::gave_up,
                                       .numbers = {on},
                                       .text = "rank " + std::to_string(on) + " " + what};
  control_.send_all(message);
  break_off(message);
}
inline void Ranks::break_off(const detail::ControlMessage& gave_up) {
  broken_.emplace(static_cast<int>(gave_up.numbers[0]), "eigenheads: " + gave_up.text);
  throw *broken_;
}

// ---- Waiting -------------------------------------------------------------------------------------

// What rank 0 says to all, who waits for all and knows for whom: that takes a little longer.
inline detail::ControlMessage Ranks::await(int from, detail::Says says) {
  detail::Pause pause(options_.patience * 5 / 4);
  return await(from, says, pause);
}
// The next message of that rank, which is to say this; throws if the round has failed instead. One
// pause is of all ranks that are waited for in turn: with one for each, others would give up on the
// rank that waits.
inline detail::ControlMessage Ranks::await(int from, detail::Says says, detail::Pause& pause) {
  using detail::ControlMessage, detail::Says;
  while (true) {
    control_.poll();
    while (const ControlMessage* const next = control_.next(from)) {
      if (next->says == says) return control_.take(from);
      if (next->says == Says::left) give_up(from, "has left: " + next->text);
      // A rank that had made its round when it heard that another failed.
      if (says != Says::stop) break;
      static_cast<void>(control_.take(from));
    }
    if (says == Says::done || says == Says::over) {
      look();
    } else if (const ControlMessage* const gave_up = control_.gave_up()) {
      break_off(*gave_up);
    }
    if (!pause()) give_up(from);
  }
}

// Throws if the round has failed.
inline void Ranks::look() {
  control_.poll();
  if (const detail::ControlMessage* const gave_up = control_.gave_up()) break_off(*gave_up);
  if (!control_.is_stopped()) return;
  settle();
  report(false, {});
  if (failure_) throw *failure_;
}

inline void Ranks::require_round() const {
  if (broken_) throw *broken_;
  if (failure_) throw *failure_;
  if (!mishap_.empty()) throw std::runtime_error(mishap_);
  if (is_settled_)
    eigenheads::detail::refuse<std::logic_error>(
        {"a message of rank ", rank(), " in a round that has failed; expected none"});
  if (!in_round_)
    eigenheads::detail::refuse<std::logic_error>(
        {"a message of rank ", rank(), " outside a round; expected it within together()"});
}

inline void Ranks::require_peer(int rank) const {
  require_round();
  if (rank < 0 || rank >= size())
    eigenheads::detail::refuse({"there is no rank ", rank, "; expected 0 to ", size() - 1});
}

inline void Ranks::progress() {
  require_round();
  look();
}
inline bool Ranks::is_done(Pending& pending) {
  require_round();
  if (pending.message_ != detail::Messages::none && !messages_.is_done(pending.message_)) {
    look();
    return false;
  }
  if (pending.message_ != detail::Messages::none)
    messages_.forget(std::exchange(pending.message_, detail::Messages::none));
  return true;
}
inline void Ranks::wait(Pending& pending) {
  require_round();
  look();
  detail::Pause pause(options_.patience);
  for (Index gone = messages_.gone(); !is_done(pending); gone = messages_.gone()) {
    if (gone != messages_.gone()) pause.reset();  // a piece of a long one
    if (!pause()) give_up(messages_.peer(pending.message_));
  }
}
inline void Ranks::wait(std::span<Pending> pending) {
  for (Pending& one : pending) wait(one);
}

inline Ranks::Pending Ranks::send(int to, std::span<const std::byte> bytes) {
  require_peer(to);
  return {*this, messages_.send(to, bytes)};
}
inline Ranks::Pending Ranks::receive(int from, std::span<std::byte> bytes) {
  require_peer(from);
  return {*this, messages_.receive(from, bytes)};
}

inline void Ranks::let_go(int message) noexcept {
  Pending pending(*this, message);
  // One that outlives its round has been ended with it.
  if (in_round_ && !broken_ && !is_settled_) {
    if (std::uncaught_exceptions() > exceptions_before_round_) {
      keep_what_it_throws([&] { settle(); });
    } else {
      try {
        wait(pending);
      } catch (const RankError&) {  // NOLINT: kept for the next call, as failure_ or broken_
      } catch (const std::exception& exception) {
        keep_what_it_throws([&] {
          mishap_ = exception.what();
          settle();  // other pieces of it may be under way
        });
      }
    }
  }
  if (broken_) cancel();
  if (std::exchange(pending.message_, detail::Messages::none) != detail::Messages::none)
    messages_.forget(message);
}

// On ranks that make no more rounds. What MPI cannot take back it goes on to read and write, in memory
// that is about to be freed: then the process ends here.
inline void Ranks::cancel() noexcept {
  detail::Pause pause(std::chrono::milliseconds(1000));
  while (!messages_.cancel_all())
    if (!pause()) {
      std::fprintf(stderr, "%s\n", broken_ ? broken_->what() : "");
      std::abort();
    }
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
#include <eigenheads/mpi/collectives.inl>
