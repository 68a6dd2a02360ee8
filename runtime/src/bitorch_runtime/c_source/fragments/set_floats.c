/* Fill floats with one value. */
static void net_set_floats(float *to, uint32_t count, float value)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = value;
    }
}
