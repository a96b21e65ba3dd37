/*
 * Without libFuzzer: runs a fuzz target over the corpus in a folder, as a test.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	static uint8_t input[65536];
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	unsigned count = 0;

	if (!dir) {
		(void)fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
		return 2;
	}
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		char path[4096];
		FILE *file;

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		file = fopen(path, "rb");
		if (!file) {
			perror(path);
			return 1;
		}
		LLVMFuzzerTestOneInput(input, fread(input, 1, sizeof(input), file));
		(void)fclose(file);
		count++;
	}
	closedir(dir);
	(void)printf("%u inputs\n", count);
	return count > 0 ? 0 : 1;
}
