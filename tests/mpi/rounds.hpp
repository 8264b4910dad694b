// SPDX-License-Identifier: MIT
#pragma once
// Rounds that are to fail in every way, and what every rank must see of it: for ranks that are threads
// (ranks_test.cpp) and for those that are processes of MPI (ranks/rounds.cpp).
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <typeinfo>
#include <vector>

#include <eigenheads/mpi/ranks.hpp>

namespace rounds {

namespace mpi = eigenheads::mpi;
using eigenheads::Index;
using mpi::Ranks;

// Throws where a test framework's macro would write down: whatever runs the ranks reports it.
inline void expect(bool holds, const std::string& sentence) {
  if (!holds) throw std::logic_error(sentence);
}
template <class Text>
void expect_text(const std::string& got, const Text& expected) {
  expect(got == expected, "got '" + got + "', expected '" + expected + "'");
}

// What call() throws: its class and its sentence. Empty if nothing.
inline std::string thrown_by(const std::function<void()>& call) {
  try {
    call();
  } catch (const mpi::RankError& error) {
    const std::string sentence = error.what();
    const std::string blames = "eigenheads: rank ", rank = std::to_string(error.rank());
    expect(!sentence.starts_with(blames) || sentence.starts_with(blames + rank + ' '),
           "a RankError of rank " + rank + " says: " + sentence);
    return "RankError: " + sentence;
  } catch (const std::invalid_argument& error) {
    return std::string("invalid_argument: ") + error.what();
  } catch (const std::exception& error) {
    return error.what();
  } catch (int number) {
    return "the number " + std::to_string(number);
  }
  return {};
}

// Numbers that tell who sent them, in which round.
inline std::vector<int> payload(std::size_t size, int rank, int round) {
  std::vector<int> numbers(size);
  for (std::size_t i = 0; i < size; ++i)
    numbers[i] = static_cast<int>(i) * 7919 + rank * 1009 + round;
  return numbers;
}

// When a rank throws.
enum class Phase { before, posted, sent, while_others_wait, received, after, late };
inline constexpr Phase phases[] = {
    Phase::before,   Phase::posted, Phase::sent, Phase::while_others_wait,
    Phase::received, Phase::after,  Phase::late};

// A round in which all ranks hand two messages of `size` numbers to the next one, and pass the first
// on once more. fail(phase) may throw.
inline void ring(Ranks& ranks, std::size_t size, int round,
                 const std::function<void(Phase)>& fail) {
  const int n = ranks.size(), me = ranks.rank(), next = (me + 1) % n, previous = (me + n - 1) % n;
  const std::vector<int> mine = payload(size, me, round), short_one = payload(3, me, round);
  std::vector<int> theirs(size), short_of_theirs(3), passed_on(size);
  ranks.together("ring", {{"numbers", static_cast<Index>(size)}}, [&] {
    fail(Phase::before);
    Ranks::Pending received = ranks.receive(previous, std::as_writable_bytes(std::span(theirs)));
    Ranks::Pending received_short =
        ranks.receive(previous, std::as_writable_bytes(std::span(short_of_theirs)));
    fail(Phase::posted);
    Ranks::Pending sent = ranks.send(next, std::as_bytes(std::span(mine)));
    fail(Phase::sent);
    Ranks::Pending sent_short = ranks.send(next, std::as_bytes(std::span(short_one)));
    fail(Phase::while_others_wait);
    ranks.wait(received);
    ranks.wait(received_short);
    fail(Phase::received);
    Ranks::Pending on = ranks.send(next, std::as_bytes(std::span(theirs)));
    Ranks::Pending passed = ranks.receive(previous, std::as_writable_bytes(std::span(passed_on)));
    fail(Phase::after);
    ranks.wait(passed);
    ranks.wait(on);
    ranks.wait(sent);
    ranks.wait(sent_short);
    fail(Phase::late);
  });
  expect(theirs == payload(size, previous, round), "the numbers are not those of the rank before");
  expect(short_of_theirs == payload(3, previous, round), "the short message is another");
  expect(passed_on == payload(size, (me + 2 * n - 2) % n, round), "another one was passed on");
}
inline void ring(Ranks& ranks, std::size_t size, int round) {
  ring(ranks, size, round, [](Phase) {});
}

// Short enough to be sent at once, and longer.
inline constexpr std::size_t sizes[] = {5, 40'000};

// One rank throws, in every phase; then a round is whole again.
inline void one_throws(Ranks& ranks) {
  int round = 0;
  for (const std::size_t size : sizes)
    for (const Phase phase : phases)
      for (int culprit = 0; culprit < ranks.size(); ++culprit) {
        const bool is_me = ranks.rank() == culprit;
        const std::string thrown = thrown_by([&] {
          ring(ranks, size, ++round, [&](Phase now) {
            if (is_me && now == phase) throw std::runtime_error("out of luck");
          });
        });
        expect_text(thrown, is_me ? std::string("out of luck")
                                  : "RankError: eigenheads: rank " + std::to_string(culprit) +
                                        " threw: out of luck");
        ring(ranks, size, ++round);
      }
}

// Two at once, of which each throws what is its own; the others name either of them, since the second
// may hear of the first before it comes to throw.
inline void two_throw(Ranks& ranks) {
  const int last = ranks.size() - 1;
  for (const std::size_t size : sizes)
    for (const Phase phase : phases) {
      const bool is_culprit = ranks.rank() == 0 || ranks.rank() == last;
      const std::string own = "rank " + std::to_string(ranks.rank()) + " had enough";
      const std::string thrown = thrown_by([&] {
        ring(ranks, size, 1, [&](Phase now) {
          if (is_culprit && now == phase) throw std::runtime_error(own);
        });
      });
      const auto other = [](int rank) {
        const std::string who = "rank " + std::to_string(rank);
        return "RankError: eigenheads: " + who + " threw: " + who + " had enough";
      };
      expect(thrown == other(0) || thrown == other(last) || (is_culprit && thrown == own),
             "rank " + std::to_string(ranks.rank()) + " threw '" + thrown + "'");
      if (phase == Phase::before && is_culprit) expect_text(thrown, own);
      if (phase == Phase::before && !is_culprit) expect_text(thrown, other(0));
      ring(ranks, size, 2);
    }
}

inline void something_else_is_thrown(Ranks& ranks) {
  const std::string thrown = thrown_by([&] {
    ring(ranks, 1000, 1, [&](Phase now) {
      if (ranks.rank() == 1 && now == Phase::sent) throw 17;
    });
  });
  expect_text(thrown, ranks.rank() == 1
                          ? "the number 17"
                          : "RankError: eigenheads: rank 1 threw: an exception that is "
                            "no std::exception");
  ring(ranks, 1000, 2);
}

// The one who throws sends to a rank that does not receive, as it waits for a third one.
inline void nobody_receives(Ranks& ranks) {
  const std::vector<int> mine = payload(100'000, ranks.rank(), 0);
  std::vector<int> theirs(100'000);
  const int last = ranks.size() - 1;
  const std::string thrown = thrown_by([&] {
    ranks.together("lost", {}, [&] {
      if (ranks.rank() == last) {
        Ranks::Pending sent = ranks.send(0, std::as_bytes(std::span(mine)));
        throw std::runtime_error("nobody listens");
      }
      // Of a rank that sends nothing.
      Ranks::Pending received =
          ranks.receive((ranks.rank() + 1) % last, std::as_writable_bytes(std::span(theirs)));
      ranks.wait(received);
    });
  });
  const std::string sentence = "nobody listens";
  expect_text(thrown, ranks.rank() == last ? sentence
                                           : "RankError: eigenheads: rank " + std::to_string(last) +
                                                 " threw: " + sentence);
  ring(ranks, 1000, 1);
}

// Nothing of data has been sent then, and all throw one sentence.
inline void calls_differ(Ranks& ranks) {
  const bool is_last = ranks.rank() == ranks.size() - 1;
  const std::string last = std::to_string(ranks.size() - 1);
  const auto expected = [&](const std::string& one, const std::string& other) {
    return "invalid_argument: eigenheads: " + one + " on rank 0 and " + other + " on rank " + last +
           "; expected the same on all ranks";
  };
  const auto never = [] { throw std::logic_error("the round began"); };
  const mpi::Traffic before = ranks.traffic();
  expect_text(thrown_by([&] { ranks.together(is_last ? "step" : "attend", {}, never); }),
              expected("the call is attend", "step"));
  expect_text(
      thrown_by([&] { ranks.together("attend", {{"H", 8}, {"E", is_last ? 256 : 512}}, never); }),
      expected("attend has E = 512", "E = 256"));
  expect_text(thrown_by([&] { ranks.together("attend", {{is_last ? "G" : "H", 8}}, never); }),
              expected("attend has H = 8", "G = 8"));
  expect_text(thrown_by([&] {
                if (is_last) {
                  ranks.together("attend", {{"H", 8}}, never);
                } else {
                  ranks.together("attend", {{"H", 8}, {"E", 512}}, never);
                }
              }),
              expected("attend has 2 terms", "1 terms"));
  expect(ranks.traffic().messages_sent == before.messages_sent, "data has been sent");
  ring(ranks, 1000, 1);
}

// Any rank throws in any phase of any round, or none does, or all do.
inline void random_failures(Ranks& ranks, int count) {
  std::uint64_t state = 1;
  const auto next = [&](std::uint64_t below) {  // the same on all ranks
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  constexpr std::size_t lengths[] = {0, 1, 900, 1100, 20'000};
  for (int round = 0; round < count; ++round) {
    const std::size_t size = lengths[next(std::size(lengths))];
    const std::uint64_t kind = next(8);
    std::vector<int> phase_of(static_cast<std::size_t>(ranks.size()), -1);
    for (std::size_t r = 0; r < phase_of.size(); ++r) {
      const auto phase = static_cast<int>(next(std::size(phases)));
      const bool throws = kind == 0 || (kind < 4 && next(phase_of.size()) == 0);
      if (throws) phase_of[r] = phase;
    }
    bool is_any = false;
    for (const int phase : phase_of) is_any = is_any || phase >= 0;
    const int own = phase_of[static_cast<std::size_t>(ranks.rank())];
    const std::string thrown = thrown_by([&] {
      ring(ranks, size, round, [&](Phase now) {
        if (static_cast<int>(now) == own) throw std::runtime_error("by chance");
      });
    });
    const std::size_t at = thrown.size() < 9 ? 0 : thrown.size() - 9;
    expect_text(is_any ? thrown.substr(at) : thrown, is_any ? "by chance" : "");
  }
}

}  // namespace rounds
