/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"

#include <setjmp.h>
#include <stdarg.h>
/* after the above */
#include <cmocka.h>

static void test_known_texts_have_their_known_checksums(void **state)
{
    static const struct {
        enum digest digest;
        size_t n;
        const char *text; /* shorter than n: repeated */
        const char *hex;
    } cases[] = {
        {DIGEST_CRC32, 0, "", "00000000"},
        {DIGEST_MD5, 0, "", "d41d8cd98f00b204e9800998ecf8427e"},
        {DIGEST_MURMUR3_32, 0, "", "00000000"},
        {DIGEST_SHA256, 0, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {DIGEST_SHA384, 0, "",
         "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b"},
        {DIGEST_SHA512, 0, "",
         "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417"
         "a81a538327af927da3e"},
        {DIGEST_CRC32, 3, "abc", "c2412435"},
        {DIGEST_MD5, 3, "abc", "900150983cd24fb0d6963f7d28e17f72"},
        {DIGEST_MURMUR3_32, 3, "abc", "fa93ddb3"},
        {DIGEST_SHA256, 3, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {DIGEST_SHA384, 3, "abc",
         "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"},
        {DIGEST_SHA512, 3, "abc",
         "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce"
         "80e2a9ac94fa54ca49f"},
        {DIGEST_CRC32, 43, "The quick brown fox jumps over the lazy dog", "39a34f41"},
        {DIGEST_MD5, 43, "The quick brown fox jumps over the lazy dog", "9e107d9d372bb6826bd81d3542a419d6"},
        {DIGEST_MURMUR3_32, 43, "The quick brown fox jumps over the lazy dog", "23f74f2e"},
        {DIGEST_SHA256, 43, "The quick brown fox jumps over the lazy dog",
         "d7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592"},
        {DIGEST_SHA384, 43, "The quick brown fox jumps over the lazy dog",
         "ca737f1014a48f4c0b6dd43cb177b0afd9e5169367544c494011e3317dbf9a509cb1e5dc1e85a941bbee3d7f2afbc9b1"},
        {DIGEST_SHA512, 43, "The quick brown fox jumps over the lazy dog",
         "07e547d9586f6a73f73fbac0435ed76951218fb7d0c8d788a309d785436bbb642e93a252a954f23912547d1e8a3b5ed6e1bfd70978212"
         "33fa0538f3db854fee6"},
        {DIGEST_CRC32, 111, "a", "8c9beed7"},
        {DIGEST_MD5, 111, "a", "089f243d1e831c5879aa375ee364a06e"},
        {DIGEST_MURMUR3_32, 111, "a", "053f0270"},
        {DIGEST_SHA256, 111, "a", "6374f73208854473827f6f6a3f43b1f53eaa3b82c21c1a6d69a2110b2a79baad"},
        {DIGEST_SHA384, 111, "a",
         "3c37955051cb5c3026f94d551d5b5e2ac38d572ae4e07172085fed81f8466b8f90dc23a8ffcdea0b8d8e58e8fdacc80a"},
        {DIGEST_SHA512, 111, "a",
         "fa9121c7b32b9e01733d034cfc78cbf67f926c7ed83e82200ef86818196921760b4beff48404df811b953828274461673c68d04e297b0"
         "eb7b2b4d60fc6b566a2"},
        {DIGEST_CRC32, 112, "a", "d39f6e0c"},
        {DIGEST_MD5, 112, "a", "9146ef3527c7cfcc66dc615c3986e391"},
        {DIGEST_MURMUR3_32, 112, "a", "5f8a8971"},
        {DIGEST_SHA256, 112, "a", "f54353008a2553262ecdc4a34749563ba0950e8b0fc8652780b0a614b99683c1"},
        {DIGEST_SHA384, 112, "a",
         "187d4e07cb306103c69967bf544d0dfbe9042577599c73c330abc0cb64c61236d5ed565ee19119d8c31779a38f791fcd"},
        {DIGEST_SHA512, 112, "a",
         "c01d080efd492776a1c43bd23dd99d0a2e626d481e16782e75d54c2503b5dc32bd05f0f1ba33e568b88fd2d970929b719ecbb152f58f1"
         "30a407c8830604b70ca"},
        {DIGEST_CRC32, 56, "a", "370d7979"},
        {DIGEST_MD5, 56, "a", "3b0c8ac703f828b04c6c197006d17218"},
        {DIGEST_MURMUR3_32, 56, "a", "38bdb3a7"},
        {DIGEST_SHA256, 56, "a", "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"},
        {DIGEST_SHA384, 56, "a",
         "8a8d9649ea04e993a6ca7135af7e3392cc5fca84f8531cac7aa3feed4eb98f55dcbe0f3284b61c6f35f98b02cc644b4c"},
        {DIGEST_SHA512, 56, "a",
         "962b64aae357d2a4fee3ded8b539bdc9d325081822b0bfc55583133aab44f18bafe11d72a7ae16c79ce2ba620ae2242d5144809161945"
         "f1367f41b3972e26e04"},
        {DIGEST_CRC32, 1000, "a", "03da389a"},
        {DIGEST_MD5, 1000, "a", "cabe45dcc9ae5b66ba86600cca6b8ba8"},
        {DIGEST_MURMUR3_32, 1000, "a", "08b6e5a1"},
        {DIGEST_SHA256, 1000, "a", "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"},
        {DIGEST_SHA384, 1000, "a",
         "f54480689c6b0b11d0303285d9a81b21a93bca6ba5a1b4472765dca4da45ee328082d469c650cd3b61b16d3266ab8ced"},
        {DIGEST_SHA512, 1000, "a",
         "67ba5535a46e3f86dbfbed8cbbaf0125c76ed549ff8b0b9e03e0c88cf90fa634fa7b12b47d77b694de488ace8d9a65967dc96df599727"
         "d3292a8d9d447709c97"},
        {DIGEST_MURMUR3_128, 0, "", "00000000000000000000000000000000"},
        {DIGEST_MURMUR3_128, 43, "The quick brown fox jumps over the lazy dog", "6c1b07bc7bbc4be347939ac4a93c437a"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        autobuf struct buf text = {0}, hex = {0};

        while (text.n < cases[i].n)
            buf_add_z(&text, cases[i].text);
        digest_hex(&hex, cases[i].digest, text.p, text.n);
        assert_int_equal(hex.n, 2 * digest_size(cases[i].digest));
        buf_add_u8(&hex, 0);
        assert_string_equal((char *)hex.p, cases[i].hex);
    }
}

static void test_names_are_known_in_any_case(void **state)
{
    enum digest digest;

    (void)state;
    assert_true(digest_by_name(&digest, STR("sha384")));
    assert_int_equal(digest, DIGEST_SHA384);
    assert_true(digest_by_name(&digest, STR("MURMUR3_128")));
    assert_int_equal(digest, DIGEST_MURMUR3_128);
    assert_false(digest_by_name(&digest, STR("SHA1")));
    assert_false(digest_by_name(&digest, STR_NONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_texts_have_their_known_checksums),
        cmocka_unit_test(test_names_are_known_in_any_case),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
