/* Makes real increments of a disk in a real vault, and says what the ransomware signal sees of them (bench_signal.py drives it):
 *
 *   signal_lab VAULT IMAGE [SPAN ...]   each line of the input: the image is sealed as the next point; a line for the increment since
 *                                       the point before, and for each SPAN since that many points before: span, then the features
 *   signal_lab --luks HEADER KEY filled|sparse VAULT IMAGE …
 *                                       the disk is HEADER (as cryptsetup made it) and behind it the image, encrypted as dm-crypt does
 *                                       (aes-xts-plain64, sectors of 512, KEY 128 hexadecimal digits); sparse: what the guest never
 *                                       wrote is zeroes
 *   signal_lab score                    lines of the input are `key feature ...` (key: which disk, its increments in order);
 *                                       each is given back with score, at once, by and by, evidence before the features
 *   signal_lab names                    the names of the features */
#include "../lib/vault_kit.h"
#include "dataplane/signal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <zstd.h>

enum { POINTS_MAX = 4096, LINE = 4096 };

static struct far_error err;

static void must(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "signal_lab: %s: %s\n", what, err.message);
        exit(1);
    }
}

struct point {
    struct far_hash256 root;
    uint64_t pack, offset;
};

struct lab {
    struct far_vault *vault;
    struct far_replica *replica;
    const uint8_t *image;
    uint8_t *copy; /* as it was at the point before */
    uint64_t size; /* of the image */
    uint8_t *header; /* that lies before it; NULL: it lies there as it is */
    uint64_t header_bytes;
    bool filled;
    uint8_t key[64];
    EVP_CIPHER_CTX *cipher;
    bool *touched; /* pages of 4 KiB that were ever written */
    struct point points[POINTS_MAX];
    size_t count;
};

static void encrypt(struct lab *lab, uint64_t block, uint8_t whole[FAR_BLOCK_BYTES])
{
    enum { SECTOR = 512, PAGE = 4096 };
    for (size_t at = 0; at < FAR_BLOCK_BYTES; at += SECTOR) {
        uint8_t tweak[16] = {0};
        int n;
        uint64_t page = (block * FAR_BLOCK_BYTES + at) / PAGE;
        lab->touched[page] = lab->touched[page] || lab->filled || !far_block_is_zero(whole + at / PAGE * PAGE, PAGE);
        if (lab->touched[page]) {
            far_put_le64(tweak, (block * FAR_BLOCK_BYTES + at) / SECTOR);
            EVP_EncryptInit_ex(lab->cipher, EVP_aes_256_xts(), NULL, lab->key, tweak);
            EVP_EncryptUpdate(lab->cipher, whole + at, &n, whole + at, SECTOR);
        }
    }
}

/* As a node that compresses always stores it. */
static void store(struct lab *lab, uint64_t at, uint8_t whole[FAR_BLOCK_BYTES])
{
    static uint8_t packed[FAR_BLOCK_BYTES];
    struct far_hash256 id;
    if (far_block_is_zero(whole, FAR_BLOCK_BYTES)) {
        must(far_replica_set(lab->replica, at, far_zero_leaf(), &err), "set a leaf");
        return;
    }
    far_block_leaf(whole, FAR_BLOCK_BYTES, &id);
    size_t n = ZSTD_compress(packed, sizeof packed, whole, FAR_BLOCK_BYTES, 1);
    if (ZSTD_isError(n) || n >= FAR_BLOCK_BYTES) {
        must(far_vault_put(lab->vault, NULL, &id, FAR_CODEC_RAW, whole, FAR_BLOCK_BYTES, &err), "store a block");
    } else {
        must(far_vault_put(lab->vault, NULL, &id, FAR_CODEC_ZSTD, packed, n, &err), "store a block");
    }
    must(far_replica_set(lab->replica, at, &id, &err), "set a leaf");
}

static void store_block(struct lab *lab, uint64_t block)
{
    static uint8_t whole[FAR_BLOCK_BYTES];
    memset(whole, 0, sizeof whole);
    memcpy(whole, lab->copy + block * FAR_BLOCK_BYTES, far_map_block_bytes(lab->size, block));
    if (lab->header != NULL) {
        encrypt(lab, block, whole);
    }
    store(lab, lab->header_bytes / FAR_BLOCK_BYTES + block, whole);
}

static void seal(struct lab *lab)
{
    static struct far_manifest manifest;
    uint64_t blocks = far_map_block_count(lab->size), id = lab->count + 1, first = lab->header_bytes / FAR_BLOCK_BYTES;
    for (uint64_t block = 0; lab->count == 0 && block < first; block++) {
        store(lab, block, lab->header + block * FAR_BLOCK_BYTES);
    }
    struct point *point = &lab->points[lab->count++];
    for (uint64_t block = 0; block < blocks; block++) {
        size_t at = block * FAR_BLOCK_BYTES, len = far_map_block_bytes(lab->size, block);
        if (memcmp(lab->copy + at, lab->image + at, len) != 0 || (lab->count == 1 && lab->filled)) {
            memcpy(lab->copy + at, lab->image + at, len);
            store_block(lab, block);
        }
    }
    must(far_replica_checkpoint(lab->replica, first + blocks, "view", &err), "checkpoint");
    must(far_replica_root(lab->replica, &point->root, &err), "root");
    kit_manifest(id, 1, lab->header_bytes + lab->size, &point->root, &manifest);
    must(far_vault_seal(lab->vault, &manifest, &err), "seal");
    must(far_vault_point(lab->vault, id, &manifest, &err), "read the manifest");
    point->pack = manifest.pack;
    point->offset = manifest.pack_offset;
}

static void print(const struct far_signal_features *features)
{
    for (unsigned i = 0; i < FAR_SIGNAL_FEATURE_COUNT; i++) {
        printf(" %" PRIu64, features->values[i]);
    }
    putchar('\n');
}

static void compute(struct lab *lab, size_t span)
{
    if (lab->count <= span) {
        return;
    }
    const struct point *before = &lab->points[lab->count - 1 - span], *after = &lab->points[lab->count - 1];
    struct far_signal_request request = {.known_before_pack = before->pack, .known_before_offset = before->offset};
    struct far_signal_features features;
    must(far_point_open(lab->vault, NULL, &before->root, &request.before, &err), "open the point before");
    must(far_point_open(lab->vault, NULL, &after->root, &request.after, &err), "open the point");
    must(far_signal_compute(lab->vault, &request, &features, &err), "compute");
    printf("%zu", span);
    print(&features);
    far_point_close(request.before);
    far_point_close(request.after);
}

static int open_header(struct lab *lab, char **argv)
{
    struct stat st;
    int fd = open(argv[0], O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size % FAR_BLOCK_BYTES != 0 || strlen(argv[1]) != 128) {
        fprintf(stderr, "signal_lab: no header, or no key\n");
        return 1;
    }
    lab->header_bytes = (uint64_t)st.st_size;
    lab->header = malloc(lab->header_bytes);
    lab->filled = strcmp(argv[2], "filled") == 0;
    lab->cipher = EVP_CIPHER_CTX_new();
    for (size_t i = 0; i < 64; i++) {
        sscanf(argv[1] + 2 * i, "%2hhx", &lab->key[i]);
    }
    bool good = read(fd, lab->header, lab->header_bytes) == (ssize_t)lab->header_bytes;
    close(fd);
    return good ? 0 : 1;
}

static int make(int argc, char **argv)
{
    static struct lab lab;
    if (strcmp(argv[1], "--luks") == 0) {
        if (argc < 7 || open_header(&lab, argv + 2) != 0) {
            return 1;
        }
        argc -= 4;
        argv += 4;
    }
    const struct far_vault_options options = {.create = true};
    const struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = 1, .attempt = 1};
    char line[LINE];
    struct stat st;
    int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        perror(argv[2]);
        return 1;
    }
    lab.size = (uint64_t)st.st_size;
    lab.image = mmap(NULL, lab.size, PROT_READ, MAP_SHARED, fd, 0);
    lab.copy = calloc(1, lab.size);
    lab.touched = calloc(lab.size / 4096 + FAR_BLOCK_BYTES / 4096, 1);
    must(far_vault_open(argv[1], &options, &lab.vault, &err), "open the vault");
    must(far_replica_open(lab.vault, NULL, 1, lab.header_bytes + lab.size, &fence, &lab.replica, &err), "open the replica");
    while (lab.count < POINTS_MAX && fgets(line, sizeof line, stdin) != NULL) {
        seal(&lab);
        compute(&lab, 1);
        for (int i = 3; i < argc; i++) {
            compute(&lab, strtoul(argv[i], NULL, 10));
        }
        puts(".");
        fflush(stdout);
    }
    far_replica_close(lab.replica);
    far_vault_close(lab.vault);
    return 0;
}

/* ---- scores of features that were kept ---- */

static bool parse(char *text, struct far_signal_features *ret)
{
    ret->version = FAR_SIGNAL_FEATURES_VERSION;
    for (unsigned i = 0; i < FAR_SIGNAL_FEATURE_COUNT; i++) {
        char *end;
        ret->values[i] = strtoull(text, &end, 10);
        if (end == text) {
            return false;
        }
        text = end;
    }
    return true;
}

static int score(void)
{
    static struct far_signal_features history[FAR_SIGNAL_HISTORY_MAX + 1];
    static char line[LINE], key[LINE] = "";
    size_t count = 0;
    while (fgets(line, sizeof line, stdin) != NULL) {
        struct far_signal_score result;
        struct far_signal_features features;
        char *rest = strchr(line, ' ');
        if (rest == NULL || !parse(rest, &features)) {
            fprintf(stderr, "signal_lab: not a line of features: %s", line);
            return 1;
        }
        *rest = '\0';
        count = strcmp(line, key) == 0 ? count : 0;
        strcpy(key, line);
        far_signal_detect(&features, history, count, &result);
        printf("%s %u %u %u %" PRIu64, key, result.score, result.at_once, result.by_and_by, result.evidence);
        print(&features);
        memmove(history + 1, history, FAR_SIGNAL_HISTORY_MAX * sizeof *history);
        history[0] = features;
        count = count < FAR_SIGNAL_HISTORY_MAX ? count + 1 : count;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "score") == 0) {
        return score();
    }
    if (argc == 2 && strcmp(argv[1], "names") == 0) {
        for (unsigned i = 0; i < FAR_SIGNAL_FEATURE_COUNT; i++) {
            puts(far_signal_feature_name((enum far_signal_feature)i));
        }
        return 0;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: signal_lab VAULT IMAGE [SPAN ...] | score | names\n");
        return 2;
    }
    return make(argc, argv);
}
