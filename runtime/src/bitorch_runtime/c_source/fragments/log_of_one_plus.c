#include "horner.c"
/* ln(1 + w) for w from 0 to 1. */
static float net_log_of_one_plus(float w)
{
    static const float c[9] = {
        -0x1.b164fep-9f, 0x1.4a249ep-6f,  -0x1.d78b46p-5f, 0x1.b50b32p-4f,  -0x1.3a597ap-3f,
        0x1.93510cp-3f,  -0x1.ff249ep-3f, 0x1.554dd4p-2f,  -0x1.ffffd2p-2f,
    };
    float square = w * w;
    return net_fused(net_horner(w, c, 9), square, w);
}
