/* A main for fuzz targets without libFuzzer: feeds every file named on the command line, or found in the folders named
 * there, to the target; prints how many. A crash is the failure. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 4 * 1024 * 1024 };

static unsigned replayed;

static int feed_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    uint8_t *data = malloc(INPUT_MAX);
    size_t size = data != NULL ? fread(data, 1, INPUT_MAX, file) : 0;
    fclose(file);
    /* a copy of the exact size, so that sanitizers and valgrind see a read beyond it */
    uint8_t *exact = malloc(size > 0 ? size : 1);
    for (size_t i = 0; exact != NULL && i < size; i++) {
        exact[i] = data[i];
    }
    free(data);
    if (exact != NULL) {
        LLVMFuzzerTestOneInput(exact, size);
        replayed++;
    }
    free(exact);
    return 0;
}

static int feed(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return feed_file(path);
    }
    struct dirent **names = NULL;
    int count = scandir(path, &names, NULL, alphasort);
    int failed = count < 0;
    for (int i = 0; i < count; i++) {
        char inner[4096];
        snprintf(inner, sizeof inner, "%s/%s", path, names[i]->d_name);
        failed |= names[i]->d_name[0] != '.' ? feed_file(inner) : 0;
        free(names[i]);
    }
    free(names);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    printf("1..1\n");
    for (int i = 1; i < argc; i++) {
        failed |= feed(argv[i]);
    }
    printf("%s 1 - %u inputs replayed\n", failed ? "not ok" : "ok", replayed);
    return failed;
}
