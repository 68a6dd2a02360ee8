/* Classifies one image.
 *
 *   classify NETWORK IMAGE
 *
 * NETWORK is a packed network (*.bit.safetensors) with one input and one output of float32 scores. IMAGE holds the values of
 * the input and nothing else, in its dtype and order, lowest byte first: NumPy's array.tofile(path) writes such files. Prints
 * the scores, the highest first.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bitorch_runtime.h"

static int fail(const char* what, const char* why) {
  fprintf(stderr, "classify: %s: %s\n", what, why);
  return 1;
}

static void print_port(const char* kind, const bitorch_port* port) {
  static const char* const dtypes[] = {"float32", "int32", "uint8"};
  static const char* const orders[] = {"nchw", "nhwc", "nf"};
  int i;
  printf("%s %s: %s %s [batch", kind, port->name, dtypes[port->dtype], orders[port->order]);
  for (i = 0; i < port->dimensions; ++i) printf(", %lld", (long long)port->shape[i]);
  printf("]\n");
}

/* Reads a file of exactly `size` bytes. */
static int read_exactly(const char* path, void* memory, size_t size) {
  FILE* file = fopen(path, "rb");
  int right;
  if (file == NULL) return 0;
  right = fread(memory, 1, size, file) == size && fgetc(file) == EOF;
  fclose(file);
  return right;
}

static void print_scores(const bitorch_model* model, const float* scores, int64_t count) {
  char* printed = calloc((size_t)count, 1);
  int64_t rank, i;
  if (printed == NULL) return;
  for (rank = 0; rank < count; ++rank) {
    int64_t best = -1;
    for (i = 0; i < count; ++i) {
      if (!printed[i] && (best < 0 || scores[i] > scores[best])) best = i;
    }
    printed[best] = 1;
    if (best < bitorch_class_count(model)) {
      printf("%g %s\n", scores[best], bitorch_class_name(model, (int)best));
    } else {
      printf("%g class %lld\n", scores[best], (long long)best);
    }
  }
  free(printed);
}

static int classify(const bitorch_model* model, const char* path) {
  const bitorch_port* input = bitorch_input(model, 0);
  const bitorch_port* output = bitorch_output(model, 0);
  char error[512];
  int result = 1;
  void* image = malloc((size_t)input->bytes);
  float* scores = malloc((size_t)output->bytes);
  const void* inputs[1];
  void* outputs[1];
  inputs[0] = image;
  outputs[0] = scores;
  print_port("input", input);
  print_port("output", output);
  if (image == NULL || scores == NULL) {
    fail(path, "there is not enough memory");
  } else if (!read_exactly(path, image, (size_t)input->bytes)) {
    fail(path, "cannot be read, or has not as many bytes as the input");
  } else if (bitorch_run(model, 1, inputs, outputs, error, sizeof error) != BITORCH_OK) {
    fail(path, error);
  } else {
    print_scores(model, scores, output->bytes / (int64_t)sizeof(float));
    result = 0;
  }
  free(image);
  free(scores);
  return result;
}

int main(int argc, char** argv) {
  bitorch_model* model;
  char error[512];
  int result;
  if (argc != 3) return fail("usage", "classify NETWORK IMAGE");
  if (bitorch_load(argv[1], 0, &model, error, sizeof error) != BITORCH_OK) return fail("the network", error);
  if (bitorch_input_count(model) != 1 || bitorch_output_count(model) != 1 || bitorch_output(model, 0)->dtype != BITORCH_FLOAT32) {
    result = fail(argv[1], "must have one input and one output of float32 scores");
  } else {
    result = classify(model, argv[2]);
  }
  bitorch_free(model);
  return result;
}
