#!/usr/bin/env python3
"""Frames as an EEPROM boot loader's NETCONSOLE sends its log: one for each line, the addresses as they are told.

usage: console_board.py INTERFACE SOURCE-MAC TARGET-MAC SOURCE-IP TARGET-IP LINE...
"""
import socket, struct, sys


def checksum(data):
    total = sum(struct.unpack('>%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(source, target, data):
    udp = struct.pack('>HHHH', 6665, 6666, 8 + len(data), 0) + data
    head = struct.pack('>BBHHHBBH', 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + source + target
    return head[:10] + struct.pack('>H', checksum(head)) + head[12:] + udp


def main():
    interface, lines = sys.argv[1], sys.argv[6:]
    source_mac, target_mac = (bytes.fromhex(mac.replace(':', '')) for mac in sys.argv[2:4])
    source, target = (socket.inet_aton(address) for address in sys.argv[4:6])
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((interface, 0))
    for line in lines:
        data = packet(source, target, line.encode() + b'\n\0')
        sock.send((target_mac + source_mac + b'\x08\x00' + data).ljust(60, b'\0'))


main()
