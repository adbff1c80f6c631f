// Why marking needs no lock. A granule's bit is set by an atomic OR; the words stand in a table
// that never moves, so a marker needs to know nothing but its address. Whoever clears bits takes a
// mutex: then only other markers can interfere with a claim, and they only add.
//
// The order against guest data. A guest writes its data, then marks. A copy clears the bit, then
// reads the data. Marking looks first whether the bit is set already; between the data and that
// look there must be a full fence, else both could miss each other: the marker sees the old bit,
// the copier old data.
//
// dirty_count_ is an upper bound at every moment (raised before, lowered after), and exact when
// nobody is within a call; so 0 means empty.
//
// Resizing. A larger table is made when the old one is full, with room for growth, and the old one
// is kept: readers may be in it. All old tables together are smaller than the current one.
#include "engine/bitmap/dirty_bitmap.h"

#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/bitmap/limits.h"

namespace tidemark::bitmap {
namespace {

static_assert(std::endian::native == std::endian::little,
              "Serialize takes the words' bytes as they lie in memory");

constexpr uint64_t kWordBits = 64;

using Word = std::atomic_ref<uint64_t>;

uint64_t Load(const uint64_t& word) {
  return Word(const_cast<uint64_t&>(word)).load(std::memory_order_acquire);
}

// What a marker sees of a word, after its guest's data is in place.
uint64_t LoadAfterData(uint64_t& word) {
#ifdef __SANITIZE_THREAD__
  // It knows no fences; a write that changes nothing is one.
  return Word(word).fetch_or(0);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return Word(word).load(std::memory_order_relaxed);
#endif
}

// Bits [begin, end) of a word; begin < end <= 64.
uint64_t Mask(uint64_t begin, uint64_t end) {
  const uint64_t below_end = end == kWordBits ? ~uint64_t{0} : (uint64_t{1} << end) - 1;
  return below_end & (~uint64_t{0} << begin);
}

uint64_t WordCount(uint64_t granule_count) { return (granule_count + kWordBits - 1) / kWordBits; }

// The first granule in [from, end) whose bit, XORed with one of `inverted`, is 1; `end` if none.
uint64_t FindOne(const uint64_t* words, uint64_t from, uint64_t end, uint64_t inverted) {
  constexpr uint64_t kStrideWords = 8;
  if (from >= end) return end;
  uint64_t index = from / kWordBits;
  const uint64_t index_end = WordCount(end);
  uint64_t found = (Load(words[index]) ^ inverted) & (~uint64_t{0} << (from % kWordBits));
  while (found == 0 && ++index < index_end) {
    // Most of a large bitmap is uniform: step over a cache line at a time.
    while (index + kStrideWords <= index_end) {
      uint64_t any = 0;
      for (uint64_t i = 0; i < kStrideWords; ++i) any |= Load(words[index + i]) ^ inverted;
      if (any != 0) break;
      index += kStrideWords;
    }
    if (index == index_end) break;
    found = Load(words[index]) ^ inverted;
  }
  if (found == 0) return end;
  return std::min(end, index * kWordBits + std::countr_zero(found));
}

// Calls visit(index of word, mask of the bits of [begin, end) in it) for every word touched.
template <typename Visit>
void ForEachWord(uint64_t begin, uint64_t end, Visit visit) {
  while (begin < end) {
    const uint64_t index = begin / kWordBits;
    const uint64_t word_end = std::min(end, (index + 1) * kWordBits);
    visit(index, Mask(begin % kWordBits, word_end - index * kWordBits));
    begin = word_end;
  }
}

}  // namespace

struct DirtyBitmap::Table {
  // calloc: the kernel hands out zeroed pages when they are first touched, so that a bitmap of a
  // huge disk costs what is used of it.
  explicit Table(uint64_t word_count)
      : word_count(word_count),
        words(static_cast<uint64_t*>(std::calloc(std::max<uint64_t>(word_count, 1), 8))) {
    CHECK(words != nullptr);
  }
  ~Table() { std::free(words); }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  const uint64_t word_count;
  uint64_t* const words;
};

uint64_t DirtyBitmap::GranuleCount(uint64_t size_bytes, uint64_t granularity_bytes) {
  return size_bytes / granularity_bytes + (size_bytes % granularity_bytes != 0 ? 1 : 0);
}

DirtyBitmap::DirtyBitmap(uint64_t size_bytes, uint64_t granularity_bytes)
    : granularity_bytes_(granularity_bytes),
      granularity_shift_(std::countr_zero(granularity_bytes)),
      size_bytes_(size_bytes) {
  CHECK(std::has_single_bit(granularity_bytes));
  CHECK(granularity_bytes >= kGranularityBytesMin && granularity_bytes <= kGranularityBytesMax);
  CHECK(granule_count() <= kGranuleCountMax);
  MutexLock lock(&clearing_mutex_);
  tables_.push_back(std::make_unique<Table>(WordCount(granule_count())));
  table_ = tables_.back().get();
}

DirtyBitmap::~DirtyBitmap() = default;

uint64_t DirtyBitmap::size_bytes() const { return size_bytes_; }

uint64_t DirtyBitmap::granule_count() const {
  return GranuleCount(size_bytes_, granularity_bytes_);
}

uint64_t* DirtyBitmap::words() const { return table_.load(std::memory_order_acquire)->words; }

DirtyBitmap::Granules DirtyBitmap::Touched(Range range) const {
  const uint64_t size_bytes = size_bytes_;
  if (range.empty() || range.offset_bytes >= size_bytes) return {0, 0};
  const uint64_t last_byte =
      range.offset_bytes + std::min(range.length_bytes, size_bytes - range.offset_bytes) - 1;
  return {range.offset_bytes >> granularity_shift_, (last_byte >> granularity_shift_) + 1};
}

void DirtyBitmap::SetGranules(Granules granules) {
  uint64_t* const words = this->words();
  ForEachWord(granules.begin, granules.end, [&](uint64_t index, uint64_t mask) {
    const uint64_t missing = mask & ~LoadAfterData(words[index]);
    if (missing == 0) return;
    dirty_count_.fetch_add(std::popcount(missing));
    const uint64_t before = Word(words[index]).fetch_or(missing);
    // Others may have been quicker with some of them.
    const int counted_twice = std::popcount(before & missing);
    if (counted_twice != 0) dirty_count_.fetch_sub(counted_twice);
  });
}

void DirtyBitmap::ClearGranules(Granules granules) {
  uint64_t* const words = this->words();
  ForEachWord(granules.begin, granules.end, [&](uint64_t index, uint64_t mask) {
    if ((Load(words[index]) & mask) == 0) return;
    const uint64_t before = Word(words[index]).fetch_and(~mask);
    dirty_count_.fetch_sub(std::popcount(before & mask));
  });
}

void DirtyBitmap::Set(Range range) { SetGranules(Touched(range)); }

void DirtyBitmap::Clear(Range range) {
  MutexLock lock(&clearing_mutex_);
  ClearGranules(Touched(range));
}

void DirtyBitmap::SetAll() { SetGranules({0, granule_count()}); }

void DirtyBitmap::ClearAll() {
  MutexLock lock(&clearing_mutex_);
  ClearGranules({0, granule_count()});
}

bool DirtyBitmap::IsDirty(uint64_t offset_bytes) const {
  if (offset_bytes >= size_bytes_) return false;
  const uint64_t granule = offset_bytes >> granularity_shift_;
  return (Load(words()[granule / kWordBits]) >> (granule % kWordBits) & 1) != 0;
}

bool DirtyBitmap::IsEmpty() const { return dirty_count_ == 0; }

uint64_t DirtyBitmap::CountBytes() const { return dirty_count_ << granularity_shift_; }

uint64_t DirtyBitmap::FindDirty(uint64_t from, uint64_t end) const {
  return FindOne(words(), from, end, /*inverted=*/0);
}

uint64_t DirtyBitmap::FindClean(uint64_t from, uint64_t end) const {
  return FindOne(words(), from, end, /*inverted=*/~uint64_t{0});
}

absl::optional<Range> DirtyBitmap::NextDirty(uint64_t from_bytes, uint64_t length_bytes_max) const {
  const uint64_t size_bytes = size_bytes_;
  if (from_bytes >= size_bytes || length_bytes_max == 0) return absl::nullopt;
  const uint64_t granule_count = GranuleCount(size_bytes, granularity_bytes_);
  const uint64_t begin = FindDirty(from_bytes >> granularity_shift_, granule_count);
  if (begin == granule_count) return absl::nullopt;
  const uint64_t begin_bytes = std::max(from_bytes, begin << granularity_shift_);
  const uint64_t limit_bytes = begin_bytes + std::min(length_bytes_max, size_bytes - begin_bytes);
  const uint64_t limit = GranuleCount(limit_bytes, granularity_bytes_);
  const uint64_t end = FindClean(begin + 1, limit);
  return Range::FromTo(begin_bytes, std::min(limit_bytes, end << granularity_shift_));
}

uint64_t DirtyBitmap::NextClean(uint64_t from_bytes) const {
  const uint64_t size_bytes = size_bytes_;
  if (from_bytes >= size_bytes) return size_bytes;
  const uint64_t granule =
      FindClean(from_bytes >> granularity_shift_, GranuleCount(size_bytes, granularity_bytes_));
  return std::min(size_bytes, std::max(from_bytes, granule << granularity_shift_));
}

absl::optional<Range> DirtyBitmap::TakeNextDirty(uint64_t from_bytes, uint64_t length_bytes_max) {
  const uint64_t mask = granularity_bytes_ - 1;
  MutexLock lock(&clearing_mutex_);
  const absl::optional<Range> range =
      NextDirty(from_bytes & ~mask, std::max(length_bytes_max & ~mask, granularity_bytes_));
  // Nobody else clears, so all of the stretch is still dirty.
  if (range.has_value()) ClearGranules(Touched(*range));
  return range;
}

void DirtyBitmap::Merge(const DirtyBitmap& source) {
  CHECK(size_bytes() == source.size_bytes());
  if (&source == this) return;
  uint64_t at = 0;
  while (const absl::optional<Range> dirty = source.NextDirty(at, size_bytes())) {
    Set(*dirty);
    at = dirty->end_bytes();
  }
}

void DirtyBitmap::Resize(uint64_t size_bytes) {
  const uint64_t new_count = GranuleCount(size_bytes, granularity_bytes_);
  CHECK(new_count <= kGranuleCountMax);
  MutexLock lock(&clearing_mutex_);
  const uint64_t old_count = granule_count();
  // Bits beyond the end are clean at all times: growing within the table shows clean granules.
  if (new_count < old_count) ClearGranules({new_count, old_count});
  Table& old_table = *table_.load();
  if (WordCount(new_count) > old_table.word_count) {
    auto table = std::make_unique<Table>(std::max(WordCount(new_count), 2 * old_table.word_count));
    for (uint64_t i = 0; i < WordCount(old_count); ++i) table->words[i] = Load(old_table.words[i]);
    table_ = table.get();
    tables_.push_back(std::move(table));
  }
  size_bytes_ = size_bytes;
}

uint64_t DirtyBitmap::SerializedLength() const { return (granule_count() + 7) / 8; }

std::string DirtyBitmap::Serialize() const { return SerializePart(0, SerializedLength()); }

std::string DirtyBitmap::SerializePart(uint64_t offset, uint64_t length) const {
  const uint64_t total = SerializedLength();
  const uint64_t begin = std::min(offset, total);
  const uint64_t end = begin + std::min(length, total - begin);
  std::string bits(end - begin, '\0');
  const uint64_t* const words = this->words();
  for (uint64_t at = begin; at < end;) {
    const uint64_t word = Load(words[at / 8]);
    const uint64_t part = std::min(end - at, 8 - at % 8);
    std::memcpy(&bits[at - begin], reinterpret_cast<const char*>(&word) + at % 8, part);
    at += part;
  }
  return bits;
}

absl::Status DirtyBitmap::Deserialize(absl::string_view bits) {
  if (bits.size() != SerializedLength()) {
    return absl::InvalidArgumentError(absl::StrCat("bitmap of ", bits.size(), " bytes for ",
                                                   granule_count(), " granules, which need ",
                                                   SerializedLength()));
  }
  return DeserializePart(0, bits);
}

absl::Status DirtyBitmap::DeserializePart(uint64_t offset, absl::string_view bits) {
  if (!Range{offset, bits.size()}.FitsIn(SerializedLength())) {
    return absl::InvalidArgumentError(absl::StrCat("piece of ", bits.size(), " bytes at ", offset,
                                                   " of a bitmap of ", SerializedLength(),
                                                   " bytes"));
  }
  MutexLock lock(&clearing_mutex_);
  uint64_t* const words = this->words();
  const uint64_t end = std::min(granule_count(), (offset + bits.size()) * 8);
  ForEachWord(offset * 8, end, [&](uint64_t index, uint64_t mask) {
    // The bytes of the word that are in the piece.
    uint64_t value = 0;
    for (uint64_t byte = std::max(index * 8, offset);
         byte < std::min(index * 8 + 8, offset + bits.size()); ++byte) {
      value |= uint64_t{static_cast<unsigned char>(bits[byte - offset])} << (byte % 8 * 8);
    }
    dirty_count_.fetch_add(std::popcount(value & mask));
    const uint64_t before = Word(words[index]).fetch_or(value & mask);
    dirty_count_.fetch_sub(std::popcount(before & value & mask));
    const uint64_t between = Word(words[index]).fetch_and(~mask | value);
    dirty_count_.fetch_sub(std::popcount(between & mask & ~value));
  });
  return absl::OkStatus();
}

std::string DirtyBitmap::Sha256() const {
  // QEMU hashes whole 64-bit words, at least one.
  constexpr uint64_t kPieceWords = 8192;
  const uint64_t word_count = std::max<uint64_t>(WordCount(granule_count()), 1);
  const uint64_t* const words = this->words();
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  CHECK(context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
  std::vector<uint64_t> piece;
  for (uint64_t i = 0; i < word_count; i += piece.size()) {
    piece.resize(std::min(kPieceWords, word_count - i));
    for (uint64_t k = 0; k < piece.size(); ++k) piece[k] = Load(words[i + k]);
    CHECK(EVP_DigestUpdate(context.get(), piece.data(), piece.size() * sizeof(uint64_t)) == 1);
  }
  std::string digest(EVP_MAX_MD_SIZE, '\0');
  unsigned int digest_bytes = 0;
  CHECK(EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(digest.data()),
                           &digest_bytes) == 1);
  return absl::BytesToHexString(absl::string_view(digest).substr(0, digest_bytes));
}

}  // namespace tidemark::bitmap
