// An EFI application for 64-bit ARM, as a boot server would hand it out: says that it came whole, and switches the machine
// off. Headers and all, since no linker at hand makes this format:
//
//     aarch64-linux-gnu-as efi_app.s -o app.o && aarch64-linux-gnu-objcopy -O binary app.o app.efi
//
// The filling gives it the size of a small kernel; its last word is what is looked at.
	.set	filling, 3 << 20
	.text
begin:	.ascii	"MZ"
	.zero	58
	.long	pe - begin
pe:	.ascii	"PE\0\0"
	.short	0xaa64, 1		// 64-bit ARM, one section
	.long	0, 0, 0
	.short	section - optional
	.short	0x206			// an executable without line numbers and symbols
optional:
	.short	0x20b			// PE32+
	.byte	2, 20
	.long	end - code, 0, 0
	.long	code - begin, code - begin
	.quad	0
	.long	0x1000, 0x200		// alignment in memory, in the file
	.short	0, 0, 0, 0, 0, 0
	.long	0, end - begin, code - begin, 0
	.short	10, 0			// an EFI application
	.quad	0, 0, 0, 0
	.long	0, 6
	.quad	0, 0, 0, 0, 0, 0
section:
	.ascii	".text\0\0\0"
	.long	end - code, code - begin, end - code, code - begin
	.long	0, 0
	.short	0, 0
	.long	0xe0000020		// code, read, written, executed

	.balign	0x1000
code:	stp	x29, x30, [sp, #-32]!	// x1: the system table
	str	x19, [sp, #16]
	mov	x19, x1
	adr	x2, code
	ldr	x3, distance
	ldr	w2, [x2, x3]
	ldr	w3, =0x4c4e5554
	adr	x1, whole
	cmp	w2, w3
	b.eq	1f
	adr	x1, torn
1:	ldr	x0, [x19, #64]		// ConOut
	ldr	x2, [x0, #8]		// OutputString
	blr	x2
	ldr	x4, [x19, #88]		// RuntimeServices
	ldr	x4, [x4, #104]		// ResetSystem
	mov	x0, #2			// EfiResetShutdown
	mov	x1, #0
	mov	x2, #0
	mov	x3, #0
	blr	x4
	ldr	x19, [sp, #16]
	ldp	x29, x30, [sp], #32
	ret
	.balign	8
distance:	.quad	last - code
	.ltorg
	.balign	2
whole:	.string16 "BOOTED WHOLE\r\n"
torn:	.string16 "BOOTED TORN\r\n"
	.balign	16
	.fill	filling / 4 - 1, 4, 0x5a5aa5a5
	.balign	0x1000
	.zero	0xffc
last:	.long	0x4c4e5554
end:
