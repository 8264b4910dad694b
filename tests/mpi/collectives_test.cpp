// SPDX-License-Identifier: MIT
// What all ranks do at once, and what it sends, to the byte.
#include <algorithm>
#include <gtest/gtest.h>
#include <numeric>

#include <eigenheads/mpi/collective_traffic.hpp>
#include <eigenheads/mpi/local_transport.hpp>

#include "rounds.hpp"

namespace {

using rounds::Index, rounds::Ranks, rounds::thrown_by;
namespace mpi = eigenheads::mpi;

constexpr int kSizes[] = {1, 2, 3, 4, 5, 7, 8};

// As the plan of it says.
void expect_traffic(const Ranks& ranks, mpi::Traffic expected) {
  expected += mpi::round_traffic(ranks.rank(), ranks.size());
  EXPECT_EQ(ranks.traffic().messages_sent, expected.messages_sent);
  EXPECT_EQ(ranks.traffic().bytes_sent, expected.bytes_sent);
  EXPECT_EQ(ranks.traffic().messages_received, expected.messages_received);
  EXPECT_EQ(ranks.traffic().bytes_received, expected.bytes_received);
  EXPECT_EQ(ranks.traffic().control_messages_sent, expected.control_messages_sent);
}
std::vector<Index> in_bytes(std::vector<Index> counts) {
  for (Index& count : counts) count *= Index{sizeof(int)};
  return counts;
}

TEST(Broadcast, ReachesAllFromAnyRootInSizeLessOneMessages) {
  for (const int size : kSizes)
    for (int root = 0; root < size; ++root) {
      std::vector<mpi::Traffic> traffic(static_cast<std::size_t>(size));
      mpi::run_locally(size, [&](Ranks& ranks) {
        std::vector<double> values(1000, ranks.rank() == root ? 0.5 : -1);
        ranks.together("broadcast", {}, [&] { ranks.broadcast<double>(root, values); });
        EXPECT_EQ(values, std::vector<double>(1000, 0.5));
        expect_traffic(ranks, mpi::broadcast_traffic(8000, root, ranks.rank(), size));
        traffic[static_cast<std::size_t>(ranks.rank())] = ranks.traffic();
      });
      Index sent = 0, most_sent = 0, levels = 0;
      for (int r = 0; r < size; ++r) {
        const mpi::Traffic& one = traffic[static_cast<std::size_t>(r)];
        EXPECT_EQ(one.messages_received, r == root ? 0 : 1);
        EXPECT_EQ(one.bytes_received, 8000 * one.messages_received);
        EXPECT_EQ(one.bytes_sent, 8000 * one.messages_sent);
        sent += one.messages_sent;
        most_sent = (std::max)(most_sent, one.messages_sent);
      }
      while ((1 << levels) < size) ++levels;
      EXPECT_EQ(sent, size - 1);
      EXPECT_EQ(most_sent, levels);
    }
}

// Parts of any length, of which some are empty.
std::vector<Index> uneven(int size) {
  std::vector<Index> counts(static_cast<std::size_t>(size));
  for (int r = 0; r < size; ++r) counts[static_cast<std::size_t>(r)] = r % 3 == 1 ? 0 : 700 * r + 5;
  return counts;
}
std::vector<int> all_parts(const std::vector<Index>& counts) {
  std::vector<int> all;
  for (std::size_t r = 0; r < counts.size(); ++r)
    for (Index i = 0; i < counts[r]; ++i)
      all.push_back(static_cast<int>(r) * 100'000 + static_cast<int>(i));
  return all;
}
std::span<int> part_of(std::vector<int>& all, const std::vector<Index>& counts, int rank) {
  const auto r = static_cast<std::ptrdiff_t>(rank);
  const Index begin = std::accumulate(counts.begin(), counts.begin() + r, Index{0});
  return std::span(all).subspan(static_cast<std::size_t>(begin),
                                static_cast<std::size_t>(counts[static_cast<std::size_t>(r)]));
}

TEST(AllGather, PutsPartsOfAnyLengthInTheOrderOfTheRanks) {
  for (const int size : kSizes)
    for (const bool in_place : {false, true})
      mpi::run_locally(size, [&](Ranks& ranks) {
        const std::vector<Index> counts = uneven(size);
        std::vector<int> expected = all_parts(counts), all(expected.size(), -1);
        const std::span<int> own = part_of(expected, counts, ranks.rank());
        const std::vector<int> mine(own.begin(), own.end());
        const std::span<int> place = part_of(all, counts, ranks.rank());
        if (in_place) std::copy(mine.begin(), mine.end(), place.begin());
        ranks.together("all_gather", {}, [&] {
          ranks.all_gather<int>(in_place ? place : std::span<const int>(mine), counts, all);
        });
        EXPECT_EQ(all, expected);
        expect_traffic(ranks, mpi::all_gather_traffic(in_bytes(counts), ranks.rank()));
      });
}

TEST(Gather, GivesTheRootAllParts) {
  for (const int size : kSizes)
    for (int root = 0; root < size; ++root)
      mpi::run_locally(size, [&](Ranks& ranks) {
        const std::vector<Index> counts = uneven(size);
        std::vector<int> expected = all_parts(counts), all;
        const std::span<const int> mine = part_of(expected, counts, ranks.rank());
        if (ranks.rank() == root) all.resize(expected.size());
        ranks.together("gather", {}, [&] { ranks.gather<int>(root, mine, counts, all); });
        if (ranks.rank() == root) {
          EXPECT_EQ(all, expected);
        }
        expect_traffic(ranks, mpi::gather_traffic(in_bytes(counts), root, ranks.rank()));
      });
}

TEST(Collectives, RefuseWhatDoesNotFitOnAllRanks) {
  mpi::run_locally(3, [](Ranks& ranks) {
    const std::vector<Index> counts{2, 2, 2};
    const std::vector<int> mine(ranks.rank() == 1 ? 3 : 2);
    std::vector<int> all(6);
    EXPECT_EQ(thrown_by([&] {
                ranks.together("gather", {}, [&] { ranks.all_gather<int>(mine, counts, all); });
              }),
              ranks.rank() == 1
                  ? "invalid_argument: eigenheads: rank 1 has 3 elements; expected 2"
                  : "RankError: eigenheads: rank 1 threw: rank 1 has 3 elements; expected 2");
    const std::span<const int> two = std::span(mine).first(2);
    const auto gather = [&](std::size_t numbers, std::size_t size) {
      return thrown_by([&] {
        ranks.together("gather", {}, [&] {
          ranks.all_gather<int>(two, std::span(counts).first(numbers), std::span(all).first(size));
        });
      });
    };
    EXPECT_EQ(gather(2, 4),
              "invalid_argument: eigenheads: counts has 2 numbers; expected 3, one for each rank");
    EXPECT_EQ(gather(3, 5),
              "invalid_argument: eigenheads: all has 5 elements; expected 6, those of all ranks");
    EXPECT_EQ(gather(3, 6), "");
    const std::vector<Index> negative{2, -2, 2};
    EXPECT_EQ(thrown_by([&] {
                ranks.together("gather", {}, [&] { ranks.all_gather<int>(two, negative, all); });
              }),
              "invalid_argument: eigenheads: counts has -2; expected no negative number");
    EXPECT_EQ(
        thrown_by([&] {
          ranks.together("gather", {}, [&] {
            ranks.gather<int>(1, two, counts, std::span(all).first(ranks.rank() == 1 ? 5 : 0));
          });
        }),
        ranks.rank() == 1
            ? "invalid_argument: eigenheads: all has 5 elements; expected 6, those of all ranks"
            : "RankError: eigenheads: rank 1 threw: all has 5 elements; expected 6, those of "
              "all ranks");
    for (const int root : {-1, 3}) {
      const std::string refusal = "invalid_argument: eigenheads: there is no rank " +
                                  std::to_string(root) + "; expected 0 to 2";
      EXPECT_EQ(thrown_by([&] {
                  ranks.together("gather", {}, [&] { ranks.gather<int>(root, two, counts, all); });
                }),
                refusal);
      EXPECT_EQ(thrown_by([&] {
                  ranks.together("broadcast", {}, [&] { ranks.broadcast<int>(root, all); });
                }),
                refusal);
    }
  });
}

// ---- Messages that are cut -----------------------------------------------------------------------

// Carries nothing, and remembers what it was to carry. As rank 0 it is alone; as another rank it hears
// what rank 0 has to say in a round that goes well.
class Noted final : public mpi::Transport {
 public:
  struct Piece {
    bool sends;
    int peer;
    const std::byte* data;
    std::size_t bytes;
  };
  Noted(int rank, int size, std::vector<Piece>& pieces)
      : rank_(rank), size_(size), pieces_(pieces) {}

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  Request send(int to, int tag, std::span<const std::byte> bytes) override {
    if (tag == control_tag) {
      answers_ += to == 0 ? 1 : 0;
    } else {
      pieces_.push_back({true, to, bytes.data(), bytes.size()});
    }
    return 0;
  }
  Request receive(int from, int tag, std::span<std::byte> bytes) override {
    if (tag == control_tag) {
      using mpi::detail::Says;
      const Index says = static_cast<Index>(said_++ == 0 ? Says::answer : Says::over);
      const Index words[] = {says, 1, 0};
      std::copy_n(std::as_bytes(std::span(words)).begin(), bytes.size(), bytes.begin());
    } else {
      pieces_.push_back({false, from, bytes.data(), bytes.size()});
    }
    return 0;
  }
  bool is_done(Request) override { return true; }
  bool cancel(Request) override { return false; }
  std::optional<mpi::Arrival> arrived(int tag) override {
    if (tag == control_tag && said_ < answers_) return mpi::Arrival{0, 3 * sizeof(Index)};
    return {};
  }

 private:
  int rank_, size_, answers_ = 0, said_ = 0;
  std::vector<Piece>& pieces_;
};

// Elements that are nowhere: nobody reads or writes them.
template <class T>
std::span<T> nowhere(std::size_t count) {
  return {reinterpret_cast<T*>(std::uintptr_t{1} << 40), count};  // NOLINT
}

// That pieces follow each other, and are as many as the longest allows.
void expect_whole(std::span<const Noted::Piece> pieces, const void* data, std::size_t bytes) {
  const std::byte* next = static_cast<const std::byte*>(data);
  std::size_t left = bytes;
  for (const Noted::Piece& piece : pieces) {
    EXPECT_EQ(piece.data, next);
    EXPECT_LT(piece.bytes, std::size_t{1} << 30);
    EXPECT_LE(piece.bytes, left);
    next += piece.bytes;
    left -= piece.bytes;
  }
  EXPECT_EQ(left, 0u);
}

TEST(Pieces, OfAMessageOfMoreThanTwoToThe31Floats) {
  const std::span<float> floats = nowhere<float>((std::size_t{1} << 31) + 3);
  std::vector<Noted::Piece> pieces;
  Ranks ranks(std::make_unique<Noted>(0, 1, pieces));
  ranks.together("to itself", {}, [&] {
    Ranks::Pending sent = ranks.send(0, std::as_bytes(floats)),
                   received = ranks.receive(0, std::as_writable_bytes(floats));
    ranks.wait(sent);
    ranks.wait(received);
  });
  ASSERT_EQ(pieces.size(), 2u * 17);
  expect_whole(std::span(pieces).first(17), floats.data(), floats.size_bytes());
  expect_whole(std::span(pieces).last(17), floats.data(), floats.size_bytes());
  EXPECT_EQ(ranks.traffic().messages_sent, 17);
  mpi::Traffic traffic;
  traffic.send((Index{1} << 33) + 12);
  traffic.receive((Index{1} << 33) + 12);
  expect_traffic(ranks, traffic);
}

// Each rank's number is below 2^31, their sum is not.
TEST(Pieces, OfPartsWhosePlacesNeed64Bits) {
  const std::vector<Index> counts{2'000'000'000, 1'999'999'999, 1'500'000'001};
  const std::span<std::byte> all = nowhere<std::byte>(5'500'000'000);
  std::vector<Noted::Piece> pieces;
  Ranks ranks(std::make_unique<Noted>(2, 3, pieces));
  const std::span<std::byte> mine = all.subspan(3'999'999'999);
  ranks.together("gather", {}, [&] { ranks.all_gather<std::byte>(mine, counts, all); });
  // Part 1 comes and 2 goes; then 0 comes and 1 goes.
  const std::size_t lengths[] = {4, 3, 4, 4};
  const std::span<std::byte> parts[] = {all.subspan(2'000'000'000, 1'999'999'999), mine,
                                        all.first(2'000'000'000),
                                        all.subspan(2'000'000'000, 1'999'999'999)};
  std::size_t at = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    ASSERT_LE(at + lengths[i], pieces.size());
    EXPECT_EQ(pieces[at].sends, i % 2 == 1);
    expect_whole(std::span(pieces).subspan(at, lengths[i]), parts[i].data(), parts[i].size());
    at += lengths[i];
  }
  EXPECT_EQ(at, pieces.size());
  expect_traffic(ranks, mpi::all_gather_traffic(counts, 2));
}

TEST(Pieces, Of2048PartsThatAre2To32BytesInAll) {
  constexpr int size = 2048;
  const std::vector<Index> counts(size, 524'288);
  const std::span<int> all = nowhere<int>(std::size_t{size} * 524'288);
  std::vector<Noted::Piece> pieces;
  Ranks ranks(std::make_unique<Noted>(1, size, pieces));
  ranks.together("gather", {},
                 [&] { ranks.gather<int>(1, all.subspan(524'288, 524'288), counts, all); });
  ASSERT_EQ(pieces.size(), 2047u);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::size_t from = i < 1 ? i : i + 1;
    EXPECT_EQ(pieces[i].peer, static_cast<int>(from));
    EXPECT_EQ(pieces[i].bytes, 4u * 524'288);
    EXPECT_EQ(pieces[i].data, reinterpret_cast<const std::byte*>(all.data() + from * 524'288));
  }
  EXPECT_EQ(ranks.traffic().bytes_received, 2047 * Index{2'097'152});
}

// Short pieces, really carried.
class Short final : public mpi::Transport {
 public:
  explicit Short(std::unique_ptr<mpi::Transport> transport) : carrier_(std::move(transport)) {}
  [[nodiscard]] int rank() const override { return carrier_->rank(); }
  [[nodiscard]] int size() const override { return carrier_->size(); }
  [[nodiscard]] std::size_t most_bytes() const override { return 20'000; }
  Request send(int to, int tag, std::span<const std::byte> bytes) override {
    return carrier_->send(to, tag, bytes);
  }
  Request receive(int from, int tag, std::span<std::byte> bytes) override {
    return carrier_->receive(from, tag, bytes);
  }
  bool is_done(Request request) override { return carrier_->is_done(request); }
  bool cancel(Request request) override { return carrier_->cancel(request); }
  std::optional<mpi::Arrival> arrived(int tag) override { return carrier_->arrived(tag); }

 private:
  std::unique_ptr<mpi::Transport> carrier_;
};

std::vector<std::unique_ptr<mpi::Transport>> short_transports(int size, std::size_t eager) {
  std::vector<std::unique_ptr<mpi::Transport>> transports;
  for (auto& transport : mpi::local_transports(size, {.eager_bytes = eager}))
    transports.push_back(std::make_unique<Short>(std::move(transport)));
  return transports;
}

TEST(Pieces, AreOneMessage) {
  for (const std::size_t eager : {std::size_t{0}, std::size_t{20'000}}) {
    mpi::run_locally(short_transports(4, eager), [](Ranks& ranks) {
      rounds::ring(ranks, 10'001, 1);  // of 4 bytes: 3 pieces, the last of 4 bytes
      EXPECT_EQ(ranks.traffic().messages_sent, 3 + 1 + 3);
      EXPECT_EQ(ranks.traffic().messages_received, 7);
      rounds::one_throws(ranks);
      rounds::random_failures(ranks, 50);
    });
  }
}

// The first is of another length, and is only let go.
TEST(Pieces, EndTogetherIfOneOfThemFails) {
  mpi::run_locally(short_transports(3, 0), [](Ranks& ranks) {
    const int number = 1;
    std::vector<int> numbers(10'001);
    const std::string thrown = thrown_by([&] {
      ranks.together("pieces", {}, [&] {
        if (ranks.rank() == 1) {
          Ranks::Pending sent = ranks.send(2, std::as_bytes(std::span(&number, 1)));
          ranks.wait(sent);
        } else if (ranks.rank() == 2) {
          const Ranks::Pending received =
              ranks.receive(1, std::as_writable_bytes(std::span(numbers)));
        }
      });
    });
    const std::string sentence = "rank 2 was sent 4 bytes by rank 1; expected 20000";
    EXPECT_EQ(thrown, ranks.rank() == 2 ? "eigenheads: " + sentence
                                        : "RankError: eigenheads: rank 2 threw: " + sentence);
    rounds::ring(ranks, 10'001, 1);
  });
}

}  // namespace
