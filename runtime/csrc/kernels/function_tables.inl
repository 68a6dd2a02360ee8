// Polynomials by which functions are computed near 0, one for each of 8 steps: a row for each power of the
// distance from the middle of the step, the highest first. Of least relative error, below 2^-24 with the rounding of
// the coefficients themselves. reference/function_tables.py has the same numbers. Part of functions.inl.

template <int rows>
using Table = float[rows][8];

// 1 - Φ(a): 8 steps of a half, around 0, 1/2 … 7/2.
alignas(64) static constexpr Table<9> kGeluTable = {
    {-0x1.635c0ap-12f, 0x1.ab1fe8p-6f, 0x1.5d7cdp-7f, 0x1.144018p-7f, -0x1.e060ecp-11f, 0x1.8f515p-12f, 0x1.924f66p-15f,
     0x1.aaead6p-18f},
    {0x1.a2f35cp-10f, 0x1.f31f48p-12f, 0x1.214aa2p-14f, 0x1.55fc02p-14f, 0x1.c0c408p-14f, 0x1.56acf6p-12f,
     0x1.8fa6aap-14f, -0x1.1e7dfap-16f},
    {0x1.371768p-15f, -0x1.79b328p-12f, 0x1.0b9638p-11f, -0x1.dfff0ap-10f, -0x1.3d2dc2p-10f, -0x1.2ea8dcp-11f,
     0x1.95d786p-14f, 0x1.74cebcp-13f},
    {-0x1.4851d4p-7f, -0x1.2d0832p-8f, 0x1.034728p-8f, 0x1.7ce4c8p-8f, 0x1.26c97ep-9f, -0x1.60993p-11f,
     -0x1.22acb2p-10f, -0x1.2f8b52p-11f},
    {-0x1.374088p-20f, -0x1.482a38p-6f, -0x1.4948bp-6f, -0x1.8a6e6p-8f, 0x1.2679a6p-8f, 0x1.85197p-8f, 0x1.b3c1b2p-9f,
     0x1.34a33p-10f},
    {0x1.1059bcp-4f, 0x1.6883ccp-5f, 0x1.e608bep-20f, -0x1.ba10fcp-6f, -0x1.ba4af4p-6f, -0x1.f69112p-7f,
     -0x1.834282p-8f, -0x1.acf05ep-10f},
    {0x1.37101cp-27f, 0x1.6881d8p-4f, 0x1.ef8d5cp-4f, 0x1.8ddffcp-4f, 0x1.ba4b6ep-5f, 0x1.66fa92p-6f, 0x1.b3aaf2p-8f,
     0x1.905824p-10f},
    {-0x1.988454p-2f, -0x1.6883dp-2f, -0x1.ef8e5ap-3f, -0x1.094086p-3f, -0x1.ba4b44p-5f, -0x1.1f2f06p-6f,
     -0x1.227214p-8f, -0x1.c9897ep-11f},
    {0x1p-1f, 0x1.3bf144p-2f, 0x1.44ed0cp-3f, 0x1.11a46ep-4f, 0x1.74bcf8p-6f, 0x1.96f4e6p-8f, 0x1.61de2p-10f,
     0x1.e7dbcap-13f},
};

// 1 / (1 + e^z), z = √(8/π)·(a + 0.044715·a^3): as kGeluTable.
alignas(64) static constexpr Table<9> kGeluTanhTable = {
    {-0x1.634cd8p-12f, 0x1.6c0254p-4f, -0x1.f28066p-8f, -0x1.5ed43p-8f, 0x1.5fc09cp-9f, 0x1.f7ce3ep-16f, 0x1.8b8d5p-14f,
     -0x1.f31cp-19f},
    {0x1.b0b206p-10f, 0x1.e4270ep-10f, -0x1.8c7488p-10f, -0x1.364ffp-10f, 0x1.769cd4p-12f, 0x1.13a582p-12f,
     0x1.ada4bp-14f, -0x1.75e0f8p-18f},
    {0x1.36c6a8p-15f, -0x1.161e2ep-7f, 0x1.8b8f7ap-9f, 0x1.f47fcp-16f, -0x1.a99946p-10f, -0x1.025758p-11f,
     0x1.69c85ap-15f, 0x1.6b92d4p-13f},
    {-0x1.4fc82ep-7f, -0x1.32109ap-8f, 0x1.1d4b3ep-8f, 0x1.7aeda2p-8f, 0x1.10a696p-9f, -0x1.21c81ap-11f,
     -0x1.14fc84p-10f, -0x1.41a5fp-11f},
    {-0x1.36b356p-20f, -0x1.48203cp-6f, -0x1.489beap-6f, -0x1.7a8bcp-8f, 0x1.1af2a2p-8f, 0x1.788394p-8f, 0x1.bda7bep-9f,
     0x1.46c256p-10f},
    {0x1.11b2dp-4f, 0x1.67848ep-5f, -0x1.b0de0ap-12f, -0x1.b5df9p-6f, -0x1.b3eae4p-6f, -0x1.fa6b6ep-7f, -0x1.906d4ep-8f,
     -0x1.b21286p-10f},
    {0x1.37142cp-27f, 0x1.697d3ap-4f, 0x1.ee61bcp-4f, 0x1.8c0b0ap-4f, 0x1.bbbfd4p-5f, 0x1.6d253cp-6f, 0x1.b82b34p-8f,
     0x1.77c7c6p-10f},
    {-0x1.988454p-2f, -0x1.685438p-2f, -0x1.ef2634p-3f, -0x1.09c7acp-3f, -0x1.bda58p-5f, -0x1.20431p-6f,
     -0x1.178bf2p-8f, -0x1.8546c2p-11f},
    {0x1p-1f, 0x1.3bfa4cp-2f, 0x1.453d22p-3f, 0x1.123c8ep-4f, 0x1.73ef8ap-6f, 0x1.8b6cccp-8f, 0x1.3dd716p-10f,
     0x1.71379ap-13f},
};

// tanh(ln(1 + e^x)): 8 steps of 1, around 0 … 3, -4 … -1.
alignas(64) static constexpr Table<8> kMishTable = {
    {-0x1.4e8e56p-10f, 0x1.fe5732p-11f, -0x1.d6d252p-13f, -0x1.febcccp-17f, -0x1.3b2a5p-19f, -0x1.141104p-16f,
     -0x1.22308p-14f, 0x1.dc44f4p-12f},
    {0x1.6f40cap-11f, -0x1.565a8cp-10f, 0x1.7909d8p-11f, -0x1.15b362p-15f, 0x1.1ce6bep-17f, -0x1.211cc8p-15f,
     -0x1.709dc2p-12f, 0x1.b92096p-12f},
    {0x1.00f512p-7f, -0x1.2a4c0ep-8f, -0x1.4ebf6cp-11f, 0x1.13bda4p-11f, 0x1.c83acp-14f, 0x1.8ecc58p-14f,
     -0x1.bb0b48p-11f, -0x1.5f701ep-9f},
    {-0x1.69660cp-12f, 0x1.c27528p-7f, -0x1.dd9f44p-9f, -0x1.f4a2c8p-10f, 0x1.56076p-11f, 0x1.4aeec8p-10f,
     0x1.6f14d6p-13f, -0x1.4a9edcp-7f},
    {-0x1.77c334p-5f, 0x1.75f40ap-8f, 0x1.1ccb02p-6f, 0x1.308c5cp-8f, 0x1.72d41cp-9f, 0x1.b47c8ep-8f, 0x1.69739ap-7f,
     -0x1.4ce284p-8f},
    {-0x1.062c62p-6f, -0x1.772e6cp-4f, -0x1.3d94ap-5f, -0x1.02716ep-7f, 0x1.21189p-7f, 0x1.6f6e48p-6f, 0x1.98bc6p-5f,
     0x1.1bfb8p-4f},
    {0x1.47ae16p-2f, 0x1.78b466p-3f, 0x1.8eb2c4p-5f, 0x1.17917cp-7f, 0x1.2696cap-6f, 0x1.8398d6p-5f, 0x1.e07906p-4f,
     0x1.f4171ep-3f},
    {0x1.333334p-1f, 0x1.baee2ep-1f, 0x1.f1a74cp-1f, 0x1.fdb3b4p-1f, 0x1.2955f6p-6f, 0x1.8db6f4p-5f, 0x1.028fcp-3f,
     0x1.36aeep-2f},
};

// ln(1 + e^x): as kMishTable.
alignas(64) static constexpr Table<8> kSoftplusTable = {
    {-0x1.40a8ccp-19f, 0x1.ebd224p-17f, -0x1.4b0ebep-15f, 0x1.64926ap-16f, 0x1.4d44b6p-20f, -0x1.2cc2c4p-17f,
     -0x1.029008p-15f, 0x1.aadaa2p-15f},
    {0x1.5b5732p-12f, 0x1.e761dp-15f, -0x1.2972fap-12f, 0x1.b4495cp-15f, 0x1.cca12ep-17f, -0x1.29dcd4p-17f,
     -0x1.1402d8p-13f, -0x1.138ae2p-14f},
    {0x1.bb9a24p-21f, 0x1.06cc6ap-10f, 0x1.987a8ap-13f, -0x1.5034fp-13f, 0x1.d36e48p-14f, 0x1.47fa82p-13f,
     -0x1.63493ap-13f, -0x1.0d3a26p-10f},
    {-0x1.55216ap-8f, -0x1.8e1d44p-10f, 0x1.b870a8p-10f, 0x1.61d6f4p-10f, 0x1.58b08ep-11f, 0x1.67d42ap-10f,
     0x1.a97a9ap-10f, -0x1.81f7ep-10f},
    {-0x1.0c18d6p-24f, -0x1.f01ecp-7f, -0x1.b4c2cep-7f, -0x1.bea0fp-8f, 0x1.73f8b6p-9f, 0x1.bea496p-8f, 0x1.b4b0bp-7f,
     0x1.f031e6p-7f},
    {0x1.ffffccp-4f, 0x1.92addp-4f, 0x1.ae01aep-5f, 0x1.721f26p-6f, 0x1.21632ap-7f, 0x1.721628p-6f, 0x1.ae0ceap-5f,
     0x1.92a946p-4f},
    {0x1p-1f, 0x1.764d4ep-1f, 0x1.c2f7d6p-1f, 0x1.e7b7ccp-1f, 0x1.26afa2p-6f, 0x1.848344p-5f, 0x1.e84154p-4f,
     0x1.136562p-2f},
    {0x1.62e43p-1f, 0x1.5031eap+0f, 0x1.103f2ep+1f, 0x1.86381cp+1f, 0x1.295e5p-6f, 0x1.8e071p-5f, 0x1.03f2d6p-3f,
     0x1.40c7acp-2f},
};
