/* 1/sqrt(squares/count + eps), or where `by_norm` is set 1/max(sqrt(squares), eps); each root of a float32 number. */
static float net_norm_factor(int by_norm, double squares, uint32_t count, float eps)
{
    if (by_norm) {
        float norm = (float)sqrt((double)(float)squares);
        norm = norm < eps ? eps : norm;
        return (float)(1.0 / (double)norm);
    }
    squares = (double)(float)(squares / (double)count) + (double)eps;
    return (float)(1.0 / sqrt(squares));
}
