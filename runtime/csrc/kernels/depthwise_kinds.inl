// What depthwise kernels that work on 32 channels of some pixels at a time add up in. Text of a kernel file.

// Sums are in the narrowest lanes that hold them: bytes where weights have one bit, 16 bits, else 32.
enum DwKind { kDwBytes, kDwWords, kDwInts };
enum DwFinish { kDwTile, kDwByteCodes, kDwWordCodes, kDwLine };

constexpr int kDwPixels = 64, kDwRows = 2;  // at a time
constexpr int kDwMostKernel = 7;
constexpr int kDwSearchBits = 4;  // of codes that are counted

static constexpr int dw_lane_bytes(DwKind kind) { return kind == kDwBytes ? 1 : kind == kDwWords ? 2 : 4; }

// Where the window of an output is read.
struct DwWindow {
  int64_t row;                 // from one row of it to the next
  int64_t tap[kDwMostKernel];  // where column kx is
  int64_t in_row, in_pixel;    // from one output to the one below it, and to the next
};

// Sums of `pixels` outputs of `live` rows, 1 or 2: [row][kDwPixels][32].
using DwSum = void (*)(const uint8_t* in, const DwWindow* window, const uint8_t* weights, int pixels, int live,
                       uint8_t* sums);
