/*
 * Byte order as types. A field of the wire or of the disk is a struct of bytes, so that a
 * forgotten conversion does not compile, alignment is 1, and no packing attribute is needed.
 */
#ifndef LUNROOT_BASE_BYTEORDER_H
#define LUNROOT_BASE_BYTEORDER_H

#include <stdint.h>

typedef struct {
	uint8_t b[2];
} be16_t;
typedef struct {
	uint8_t b[3];
} be24_t;
typedef struct {
	uint8_t b[4];
} be32_t;
typedef struct {
	uint8_t b[8];
} be64_t;
typedef struct {
	uint8_t b[2];
} le16_t;
typedef struct {
	uint8_t b[4];
} le32_t;
typedef struct {
	uint8_t b[8];
} le64_t;

/* The same conversions for bytes that lie in a CDB or in parameter data. */
static inline uint16_t get_be16(const uint8_t *p)
{
	return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

static inline uint32_t get_be24(const uint8_t *p)
{
	return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

static inline uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t get_be64(const uint8_t *p)
{
	return (uint64_t)get_be32(p) << 32 | get_be32(p + 4);
}

static inline void put_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void put_be24(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 16);
	p[1] = (uint8_t)(v >> 8);
	p[2] = (uint8_t)v;
}

static inline void put_be32(uint8_t *p, uint32_t v)
{
	put_be16(p, (uint16_t)(v >> 16));
	put_be16(p + 2, (uint16_t)v);
}

static inline void put_be64(uint8_t *p, uint64_t v)
{
	put_be32(p, (uint32_t)(v >> 32));
	put_be32(p + 4, (uint32_t)v);
}

static inline uint16_t be16_get(be16_t v)
{
	return get_be16(v.b);
}
static inline uint32_t be24_get(be24_t v)
{
	return get_be24(v.b);
}
static inline uint32_t be32_get(be32_t v)
{
	return get_be32(v.b);
}
static inline uint64_t be64_get(be64_t v)
{
	return get_be64(v.b);
}
static inline void be16_put(be16_t *p, uint16_t v)
{
	put_be16(p->b, v);
}
static inline void be24_put(be24_t *p, uint32_t v)
{
	put_be24(p->b, v);
}
static inline void be32_put(be32_t *p, uint32_t v)
{
	put_be32(p->b, v);
}
static inline void be64_put(be64_t *p, uint64_t v)
{
	put_be64(p->b, v);
}

static inline uint16_t le16_get(le16_t v)
{
	return (uint16_t)((unsigned)v.b[1] << 8 | v.b[0]);
}

static inline uint32_t le32_get(le32_t v)
{
	return (uint32_t)v.b[3] << 24 | (uint32_t)v.b[2] << 16 | (uint32_t)v.b[1] << 8 | v.b[0];
}

static inline uint64_t le64_get(le64_t v)
{
	uint64_t r = 0;

	for (int i = 7; i >= 0; i--)
		r = r << 8 | v.b[i];
	return r;
}

static inline void le16_put(le16_t *p, uint16_t v)
{
	p->b[0] = (uint8_t)v;
	p->b[1] = (uint8_t)(v >> 8);
}

static inline void le32_put(le32_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p->b[i] = (uint8_t)(v >> (8 * i));
}

static inline void le64_put(le64_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p->b[i] = (uint8_t)(v >> (8 * i));
}

#endif
