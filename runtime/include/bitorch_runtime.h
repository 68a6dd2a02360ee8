/* bitorch-runtime in C99: load a packed network (docs/format.md), look at its inputs and outputs, run it.
 *
 *   char error[512];
 *   bitorch_model* model;
 *   if (bitorch_load("net.bit.safetensors", 0, &model, error, sizeof error) != BITORCH_OK) { fprintf(stderr, "%s\n", error); ... }
 *   const void* inputs[] = {image};
 *   void* outputs[] = {scores};
 *   if (bitorch_run(model, 1, inputs, outputs, error, sizeof error) != BITORCH_OK) ...
 *   bitorch_free(model);
 *
 * No function throws, exits or prints. Those that can fail return a status and write a sentence of at most error_size - 1 bytes
 * (UTF-8, ended by a zero byte, cut if it is longer) to `error`; where error_size is 0, `error` may be null. On success the
 * text is empty. A model does not change once it is loaded: several threads may run it at the same time. Pointers that a
 * function returns belong to the model, and are valid until it is freed.
 */
#ifndef BITORCH_RUNTIME_H
#define BITORCH_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define BITORCH_API __attribute__((visibility("default")))
#else
#define BITORCH_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bitorch_model bitorch_model;

typedef enum {
  BITORCH_OK = 0,
  BITORCH_ERROR = 1,     /* an argument or the file is wrong; the text says which, and the rule */
  BITORCH_NO_MEMORY = 2  /* there is not enough memory */
} bitorch_status;

typedef enum { BITORCH_FLOAT32 = 0, BITORCH_INT32 = 1, BITORCH_UINT8 = 2, BITORCH_INT64 = 3 } bitorch_dtype;

/* How the numbers of an array lie in memory: channels first, [batch][C][rows ...], such as [batch][C][H][W] and [batch][C][L];
 * channels last, [batch][rows ...][C], such as [batch][H][W][C] and [batch][tokens][features]; or [batch][F] of vectors. Never
 * with gaps. An array may have other dimensions for the same numbers: those of the network that was packed. */
typedef enum { BITORCH_NCHW = 0, BITORCH_NHWC = 1, BITORCH_NF = 2 } bitorch_order;

/* An input or an output. */
typedef struct {
  const char* name;
  bitorch_dtype dtype;
  bitorch_order order;
  int bits;         /* of uint8: its values go from 0 to 2^bits - 1; of int32 and int64 inputs: from 0 to bits - 1; else 0 */
  int dimensions;   /* 0 to 8: 3 of images, 2 of signals and tokens, 1 of vectors; 0 of one number per image */
  int64_t shape[8]; /* of one image; the batch comes before it; 1 beyond `dimensions`; -1: open, see bitorch_at_sizes */
  int64_t bytes;    /* of one image; 0 where its shape is open */
  int64_t least[8]; /* of an input: the smallest that a dimension may be, where it is open; else as `shape` */
  int64_t step[8];  /* it may be least + n * step; 0 where it is fixed, or follows from other open dimensions */
} bitorch_port;

/* The version of the library, e.g. "0.1.0". */
BITORCH_API const char* bitorch_version(void);

/* Loads a file, or a file's bytes, of which nothing is kept. The file may come from anywhere: it is checked, and may hold
 * nothing but data. memory_limit: the most bytes that it may take: weights prepared for this CPU and all else that is kept,
 * and what one image is worked on in, results included; 0 stands for 1 GiB. *model is null where loading fails. */
BITORCH_API bitorch_status bitorch_load(const char* path, int64_t memory_limit, bitorch_model** model, char* error, size_t error_size);
BITORCH_API bitorch_status bitorch_load_memory(const void* data, size_t size, int64_t memory_limit, bitorch_model** model,
                                               char* error, size_t error_size);

/* Null is allowed. No thread may be running the model. */
BITORCH_API void bitorch_free(bitorch_model* model);

/* How many there are, and the index-th of them; null beyond the last. A null model has none of anything. */
BITORCH_API int bitorch_input_count(const bitorch_model* model);
BITORCH_API int bitorch_output_count(const bitorch_model* model);
BITORCH_API const bitorch_port* bitorch_input(const bitorch_model* model, int index);
BITORCH_API const bitorch_port* bitorch_output(const bitorch_model* model, int index);

/* The names of what the scores stand for, as the file has them: 0 and null where it has none. */
BITORCH_API int bitorch_class_count(const bitorch_model* model);
BITORCH_API const char* bitorch_class_name(const bitorch_model* model, int index);

/* What the file says about the network: a JSON object with class_names, preprocessing and provenance, each if given. */
BITORCH_API const char* bitorch_info(const bitorch_model* model);

/* Runs `batch` images, 0 or more. inputs[i] points to batch times bitorch_input(model, i)->bytes bytes, outputs[i] to room for
 * batch times bitorch_output(model, i)->bytes; each is aligned to its dtype, and no output overlaps anything else. Where it
 * fails, what is in the outputs is unspecified, and the model is as it was. */
BITORCH_API bitorch_status bitorch_run(const bitorch_model* model, int64_t batch, const void* const* inputs, void* const* outputs,
                                       char* error, size_t error_size);

/* A model for one size of a model whose sizes are open: shapes[i] points to bitorch_input(model, i)->dimensions numbers, those
 * of one image. It is run and freed like any other, lives as long as that takes, even when `model` is freed before it, and
 * says the shapes of its inputs and outputs. Planning a size takes about as long as loading; the last few plans are kept by
 * `model`, and are the same plans. Where sizes do not fit the text says which would. *sized is null where it fails. */
BITORCH_API bitorch_status bitorch_at_sizes(const bitorch_model* model, const int64_t* const* shapes, bitorch_model** sized,
                                            char* error, size_t error_size);

/* How many threads each call uses, 1 to 256, the caller included; for all models. At first: the CPUs that this process may use.
 * 0 is returned where there is no memory to find out. */
BITORCH_API bitorch_status bitorch_set_threads(int threads, char* error, size_t error_size);
BITORCH_API int bitorch_get_threads(void);

#ifdef __cplusplus
}
#endif

#endif
