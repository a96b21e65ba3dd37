/*
 * The facts about each model as tables; see pisim_model.h for what the sources' short names mean.
 */
#include <string.h>

#include "pisim_model.h"

/* bootcode.bin and start.elf of a 3B+: PexMor/raspi-netboot, fw#1362, Hexxeh#269. Of two requests
 * for the same file in a row the first only looks whether it is there (fw#1700). recovery*,
 * autoboot.txt, dt-blob.bin, bootcfg.txt and armstub8-32.bin are normally absent. */
#define BOOTCODE_AND_START_ELF                                                           \
	{ACT_DHCP, LEVEL_BOOTCODE, NEED_IT, ""}, /* fw#1124, #1605 */                    \
		{ACT_PREFIX, LEVEL_BOOTCODE, NEED_NOTHING, "start.elf"},                 \
		{ACT_GET, LEVEL_BOOTCODE, NEED_NOTHING, "autoboot.txt"},                 \
		{ACT_CONFIG, LEVEL_BOOTCODE, NEED_WHOLE, "config.txt"},                  \
		{ACT_GET, LEVEL_BOOTCODE, NEED_NOTHING, "recovery.elf"},                 \
		{ACT_GET, LEVEL_BOOTCODE, NEED_IT, "start.elf"}, /* 4 flashes without */ \
		{ACT_GET, LEVEL_BOOTCODE, NEED_WHOLE,                                    \
		 "fixup.dat"}, /* fw#1041: memory wrong without */                       \
		{ACT_GET, LEVEL_BOOTCODE, NEED_NOTHING, "recovery.elf"},                 \
		{ACT_CONFIG_PROBE, LEVEL_BOOTCODE, NEED_NOTHING, "config.txt"},          \
		{ACT_CONFIG, LEVEL_BOOTCODE, NEED_WHOLE, "config.txt"},                  \
		{ACT_GET, LEVEL_BOOTCODE, NEED_NOTHING, "dt-blob.bin"},                  \
		{ACT_GET, LEVEL_BOOTCODE, NEED_NOTHING, "recovery.elf"},                 \
		{ACT_CONFIG_PROBE, LEVEL_BOOTCODE, NEED_NOTHING, "config.txt"},          \
		{ACT_CONFIG, LEVEL_BOOTCODE, NEED_WHOLE, "config.txt"},                  \
		{ACT_GET, LEVEL_BOOTCODE, NEED_NOTHING, "bootcfg.txt"},                  \
		{ACT_INITRAMFS, LEVEL_BOOTCODE, NEED_WHOLE, ""},                         \
		{ACT_TREE_PROBE, LEVEL_BOOTCODE, NEED_NOTHING, ""},                      \
		{ACT_TREE, LEVEL_BOOTCODE, NEED_WHOLE, ""},                              \
		{ACT_GET, LEVEL_BOOTCODE, NEED_NOTHING, "overlays/overlay_map.dtb"},     \
		{ACT_OVERLAYS, LEVEL_BOOTCODE, NEED_WHOLE, ""},                          \
		{ACT_CONFIG, LEVEL_BOOTCODE, NEED_WHOLE, "config.txt"},                  \
		{ACT_CMDLINE_PROBE, LEVEL_BOOTCODE, NEED_NOTHING, ""},                   \
		{ACT_CMDLINE, LEVEL_BOOTCODE, NEED_WHOLE, ""},                           \
		{ACT_PROBE, LEVEL_BOOTCODE, NEED_NOTHING, "recovery8.img"},              \
		{ACT_PROBE, LEVEL_BOOTCODE, NEED_NOTHING, "recovery8-32.img"},           \
		{ACT_PROBE, LEVEL_BOOTCODE, NEED_NOTHING, "recovery7.img"},              \
		{ACT_PROBE, LEVEL_BOOTCODE, NEED_NOTHING, "recovery.img"},               \
		{ACT_KERNEL_TRY, LEVEL_BOOTCODE, NEED_NOTHING, "kernel8-32.img"},        \
		{ACT_KERNEL_TRY, LEVEL_BOOTCODE, NEED_NOTHING, "kernel8.img"},           \
		{ACT_KERNEL_TRY, LEVEL_BOOTCODE, NEED_NOTHING, "kernel7.img"},           \
		{ACT_KERNEL_PROBE, LEVEL_BOOTCODE, NEED_NOTHING, ""},                    \
		{ACT_GET, LEVEL_BOOTCODE, NEED_NOTHING, "armstub8-32.bin"},              \
		{ACT_KERNEL, LEVEL_BOOTCODE, NEED_IT, ""}, /* 7 flashes without */       \
	{                                                                                \
		ACT_END, LEVEL_BOOTCODE, NEED_NOTHING, ""                                \
	}

static const struct step steps_rom[] = {
	{ACT_DHCP, LEVEL_ROM, NEED_IT, ""},
	{ACT_GET, LEVEL_ROM, NEED_IT, "bootcode.bin"},
	{ACT_GET, LEVEL_ROM, NEED_NOTHING, "bootsig.bin"}, /* doc: normally absent */
	BOOTCODE_AND_START_ELF,
};

/* bootcode.bin alone on an SD card. */
static const struct step steps_sd[] = {BOOTCODE_AND_START_ELF};

/* ee#74's log of dnsmasq; what start4.elf does begins at the second recovery.elf. */
static const struct step steps_4[] = {
	{ACT_DHCP, LEVEL_EEPROM, NEED_IT, ""},
	{ACT_PREFIX, LEVEL_EEPROM, NEED_NOTHING, "start4.elf"},
	{ACT_PREFIX_OR, LEVEL_EEPROM, NEED_NOTHING, "start.elf"},
	{ACT_CONFIG, LEVEL_EEPROM, NEED_WHOLE, "config.txt"},
	{ACT_GET, LEVEL_EEPROM, NEED_NOTHING, "vl805.sig"},
	{ACT_GET, LEVEL_EEPROM, NEED_NOTHING, "pieeprom.sig"},
	{ACT_PROBE, LEVEL_EEPROM, NEED_NOTHING, "recover4.elf"},
	{ACT_PROBE, LEVEL_EEPROM, NEED_NOTHING, "recovery.elf"},
	{ACT_GET, LEVEL_EEPROM, NEED_IT, "start4.elf"},
	{ACT_GET, LEVEL_EEPROM, NEED_WHOLE, "fixup4.dat"},
	{ACT_PROBE, LEVEL_EEPROM, NEED_NOTHING, "recovery.elf"},
	{ACT_CONFIG, LEVEL_EEPROM, NEED_WHOLE, "config.txt"},
	{ACT_GET, LEVEL_EEPROM, NEED_NOTHING, "dt-blob.bin"},
	{ACT_PROBE, LEVEL_EEPROM, NEED_NOTHING, "recovery.elf"},
	{ACT_CONFIG, LEVEL_EEPROM, NEED_WHOLE, "config.txt"},
	{ACT_GET, LEVEL_EEPROM, NEED_NOTHING, "bootcfg.txt"},
	{ACT_INITRAMFS, LEVEL_EEPROM, NEED_WHOLE, ""},
	{ACT_TREE, LEVEL_EEPROM, NEED_WHOLE, ""},
	{ACT_GET, LEVEL_EEPROM, NEED_NOTHING, "overlays/overlay_map.dtb"},
	{ACT_OVERLAYS, LEVEL_EEPROM, NEED_WHOLE, ""},
	{ACT_CONFIG, LEVEL_EEPROM, NEED_WHOLE, "config.txt"},
	{ACT_CMDLINE, LEVEL_EEPROM, NEED_WHOLE, ""},
	{ACT_KERNEL_TRY, LEVEL_EEPROM, NEED_NOTHING, "kernel8.img"},
	{ACT_KERNEL_TRY, LEVEL_EEPROM, NEED_NOTHING, "kernel7l.img"},
	{ACT_KERNEL_PROBE, LEVEL_EEPROM, NEED_NOTHING, ""},
	{ACT_GET, LEVEL_EEPROM, NEED_NOTHING, "armstub8-gic.bin"},
	{ACT_KERNEL, LEVEL_EEPROM, NEED_IT, ""},
	{ACT_END, LEVEL_EEPROM, NEED_NOTHING, ""},
};

/* ee#881: config.txt decides the prefix, there is no start*.elf. The order after it is the one of
 * ee#720's and ee#857's consoles as far as they go; nobody has published all of it. */
static const struct step steps_5[] = {
	{ACT_DHCP, LEVEL_EEPROM, NEED_IT, ""},
	{ACT_PREFIX, LEVEL_EEPROM, NEED_NOTHING, "config.txt"},
	{ACT_CONFIG, LEVEL_EEPROM, NEED_WHOLE, "config.txt"},
	{ACT_GET, LEVEL_EEPROM, NEED_NOTHING, "pieeprom.sig"},
	{ACT_KERNEL_TRY, LEVEL_EEPROM, NEED_NOTHING, "kernel_2712.img"},
	{ACT_KERNEL_TRY, LEVEL_EEPROM, NEED_NOTHING, "kernel8.img"},
	{ACT_KERNEL_PROBE, LEVEL_EEPROM, NEED_NOTHING, ""},
	{ACT_KERNEL, LEVEL_EEPROM, NEED_IT, ""},
	{ACT_TREE, LEVEL_EEPROM, NEED_WHOLE, ""},
	{ACT_INITRAMFS, LEVEL_EEPROM, NEED_WHOLE, ""},
	{ACT_GET, LEVEL_EEPROM, NEED_NOTHING, "overlays/overlay_map.dtb"},
	{ACT_OVERLAYS, LEVEL_EEPROM, NEED_WHOLE, ""},
	{ACT_CMDLINE, LEVEL_EEPROM, NEED_WHOLE, ""},
	{ACT_GET, LEVEL_EEPROM, NEED_NOTHING, "armstub8-2712.bin"},
	{ACT_END, LEVEL_EEPROM, NEED_NOTHING, ""},
};

const struct model models[MODEL_COUNT] = {
	[MODEL_3B] = {"3b",
		      "Raspberry Pi 3B",
		      LEVEL_ROM,
		      true,
		      true,
		      {0xb8, 0x27, 0xeb},
		      0,
		      0,
		      "bcm2710-rpi-3-b.dtb",
		      steps_rom},
	[MODEL_3B_PLUS] = {"3b+",
			   "Raspberry Pi 3B+",
			   LEVEL_ROM,
			   false,
			   false,
			   {0xb8, 0x27, 0xeb},
			   0,
			   0,
			   "bcm2710-rpi-3-b-plus.dtb",
			   steps_rom},
	[MODEL_3B_SD] = {"3b-sd",
			 "Raspberry Pi 3B, bootcode.bin on SD",
			 LEVEL_BOOTCODE,
			 false,
			 false,
			 {0xb8, 0x27, 0xeb},
			 0,
			 0,
			 "bcm2710-rpi-3-b.dtb",
			 steps_sd},
	[MODEL_4] = {"4",
		     "Raspberry Pi 4",
		     LEVEL_EEPROM,
		     false,
		     false,
		     {0xdc, 0xa6, 0x32},
		     '4',
		     0xa03111,
		     "bcm2711-rpi-4-b.dtb",
		     steps_4},
	[MODEL_5] = {"5",
		     "Raspberry Pi 5",
		     LEVEL_EEPROM,
		     false,
		     false,
		     {0xd8, 0x3a, 0xdd},
		     '5',
		     0xc04170,
		     "bcm2712-rpi-5-b.dtb",
		     steps_5},
};

enum model_id model_by_name(const char *name)
{
	enum model_id id = 0;

	while (id < MODEL_COUNT && strcmp(models[id].name, name) != 0)
		id++;
	return id;
}

/* Up to a Pi 3 the MAC's tail is the serial number's (fw#1605); later the two have nothing in
 * common. */
struct identity identity_make(enum model_id model, unsigned index)
{
	struct identity who = {.model = model, .index = index};
	uint32_t tail = (uint32_t)model << 16 | (index & 0xffff);

	who.serial = 0xa0000000u | (uint32_t)model << 24 | tail;
	memcpy(who.mac, models[model].oui, 3);
	if (models[model].first == LEVEL_EEPROM)
		tail = 0x800000u | (uint32_t)model << 16 | (index * 7919 & 0xffff);
	who.mac[3] = (uint8_t)(tail >> 16);
	who.mac[4] = (uint8_t)(tail >> 8);
	who.mac[5] = (uint8_t)tail;
	return who;
}

struct rules rules_default(void)
{
	return (struct rules){
		.lock_percent = 50, /* nobody has figures; without a delay many boot all the same */
		.lock_below_ms = 900,
		.sit_percent = 33,
		.discovers_rom = 5, /* doc: 5 times, 5 s apart, then never again */
		.discovers_bootcode =
			12, /* fw#1124: about a minute; fw#941: the 12th was answered */
		.discover_every_ms = 5000,
		.rom_patience_ms =
			10000, /* nobody has figures: patient beyond any server's resending */
		.bootcode_patience_ms =
			1000, /* fw#991, #1025: "will give up waiting after a second" */
		.bootcode_asks = 3,
		.dhcp_timeout_ms =
			45000, /* doc: DHCP_TIMEOUT, DHCP_REQ_TIMEOUT, TFTP_FILE_TIMEOUT */
		.dhcp_resend_ms = 4000,
		.file_timeout_ms = 30000,
		.rrq_every_ms = 2000, /* ee#74 */
		.arp_every_ms = 1000,
		.arp_tries = 5,
		.restart_ms = 2000,
		.blksize = 1468, /* since 2022-10-03; 1024 before */
	};
}

const uint8_t *model_asked_for(enum level level, size_t *ret_count)
{
	/* fw#862 and #764; fw#941; ee#58. */
	static const uint8_t rom[] = {43, 60, 67, 128, 129, 130, 131, 132, 133, 134, 135, 66};
	static const uint8_t bootcode[] = {43,  60,  67,  128, 129, 130, 131,
					   132, 133, 134, 135, 66,  1,   3};
	static const uint8_t eeprom[] = {1,   3,   43,  60,  66,  67,  128,
					 129, 130, 131, 132, 133, 134, 135};

	*ret_count = level == LEVEL_ROM ? sizeof(rom) : sizeof(bootcode);
	return level == LEVEL_ROM ? rom : level == LEVEL_BOOTCODE ? bootcode : eeprom;
}

static void put_le32(uint8_t *to, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t)(value >> 8 * i);
}

void model_guid(const struct identity *who, enum level level, uint8_t guid[static 17])
{
	const struct model *model = &models[who->model];

	guid[0] = 0;
	if (level == LEVEL_EEPROM) {
		memcpy(guid + 1, "RPi", 3);
		guid[4] = model->fourcc_digit;
		put_le32(guid + 5, model->revision);
		memcpy(guid + 9, who->mac + 2, 4);
		put_le32(guid + 13, who->serial);
	} else if (level == LEVEL_ROM && model->constant_guid) {
		memset(guid + 1, 0x44, 16);
	} else {
		for (int i = 0; i < 4; i++)
			put_le32(guid + 1 + 4 * i, who->serial);
	}
}
