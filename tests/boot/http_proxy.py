#!/usr/bin/env python3
"""A stand-in for the boot service's answer to UEFI HTTP boot: http_proxy.py ADDRESS URL MAC...

Offers the URL, and no address, to HTTPClients with these MACs (UEFI 2.10, 24.7.3): the router gives the address.
"""
import socket
import sys

CLIENT = b"HTTPClient"


def options_of(packet):
    options, at = {}, 240
    while at + 1 < len(packet) and packet[at] != 255:
        if packet[at] == 0:
            at += 1
            continue
        options[packet[at]] = packet[at + 2:at + 2 + packet[at + 1]]
        at += 2 + packet[at + 1]
    return options


def offer(packet, options, address, url):
    reply = bytearray(packet[:240])
    reply[0] = 2
    reply[10] = 0x80  # by broadcast
    reply[12:28] = bytes(16)
    reply[44:236] = bytes(192)
    for code, value in ((53, b"\2"), (54, address), (60, CLIENT), (67, url), (97, options.get(97))):
        if value:
            reply += bytes([code, len(value)]) + value
    return bytes(reply) + b"\xff"


def main():
    address, url = socket.inet_aton(sys.argv[1]), sys.argv[2].encode()
    macs = [bytes.fromhex(mac.replace(":", "")) for mac in sys.argv[3:]]
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_REUSEADDR, socket.SO_BROADCAST):
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    listener.bind(("", 67))
    while True:
        packet = listener.recv(2048)
        if len(packet) < 240 or packet[0] != 1 or packet[28:34] not in macs:
            continue
        options = options_of(packet)
        if options.get(53) == b"\1" and options.get(60, b"").startswith(CLIENT):
            listener.sendto(offer(packet, options, address, url), ("255.255.255.255", 68))


main()
