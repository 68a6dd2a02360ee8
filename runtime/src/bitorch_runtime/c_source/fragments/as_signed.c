/* The number that two's complement stands for. Sums are made without a sign, where C knows no overflow. */
static int32_t net_as_signed(uint32_t word)
{
    return word <= INT32_MAX ? (int32_t)word : -(int32_t)(UINT32_MAX - word) - 1;
}
