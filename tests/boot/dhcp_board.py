#!/usr/bin/env python3
"""A board that asks as a Pi's boot ROM or bootloader (or a PC's) does, and writes what it hears.

usage: dhcp_board.py INTERFACE rom|eeprom|pc [SECONDS] [broadcast] [request=ADDRESS,SERVER] [pxe=ADDRESS,SERVER]

One line for each answer:    AFTER-MS TYPE yiaddr=.. siaddr=.. server=.. from=.. [boot] [file=..]
and one for each nudge:      AFTER-MS nudge
"""
import fcntl, select, socket, struct, sys, time

ROM_XID = 0x26F30339
MENU = b'Raspberry Pi Boot   '
TYPES = {2: 'offer', 5: 'ack', 6: 'nak'}


def ip(text):
    return socket.inet_aton(text)


def mac_of(sock, interface):
    return fcntl.ioctl(sock, 0x8927, struct.pack('256s', interface.encode()))[18:24]


def message(kind, mac, op_type, broadcast, options=(), ciaddr='0.0.0.0'):
    xid = ROM_XID if kind == 'rom' else 0x13572468
    data = struct.pack('>BBBBIHH', 1, 1, 6, 0, xid, 0, 0x8000 if broadcast else 0) + ip(ciaddr)
    data += bytes(12) + mac + bytes(10 + 192) + bytes([99, 130, 83, 99, 53, 1, op_type])
    items = [43, 60, 66, 67] + list(range(128, 136))
    if kind != 'rom':
        items = [1, 3] + items
    guid = {'rom': bytes([0x44] * 16),
            'eeprom': b'RPi4' + bytes.fromhex('1131a000') + mac[2:] + bytes.fromhex('1045155b'),
            'pc': bytes.fromhex('123456789abcde418001020304050607')}[kind]
    arch = 7 if kind == 'pc' else 0
    fixed = [(55, bytes(items)), (93, struct.pack('>H', arch)), (94, b'\1\2\1'), (97, b'\0' + guid)]
    if op_type == 1 or kind == 'pc':
        fixed.append((60, b'PXEClient:Arch:%05d:UNDI:002001' % arch))
    for code, value in list(options) + fixed:
        data += bytes([code, len(value)]) + value
    return data + b'\xff'


def checksum(data):
    total = sum(struct.unpack('>%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(data, source='0.0.0.0', target='255.255.255.255', port=67):
    udp = struct.pack('>HHHH', 68, port, 8 + len(data), 0) + data  # a ROM makes no checksum
    head = struct.pack('>BBHHHBBH', 0x45, 0, 20 + len(udp), 0, 0, 128, 17, 0) + ip(source) + ip(target)
    return head[:10] + struct.pack('>H', checksum(head)) + head[12:] + udp


def options_of(data):
    at, options = 240, {}
    while at < len(data) and data[at] != 255:
        if data[at]:
            options[data[at]] = data[at + 2:at + 2 + data[at + 1]]
            at += 1 + data[at + 1]
        at += 1
    return options


def hear(packet, mac):
    """The line for an IPv4 packet, or None."""
    if len(packet) < 28 + 240 or packet[9] != 17:
        return None
    source, target = struct.unpack('>HH', packet[20:24])
    data = packet[28:28 + struct.unpack('>H', packet[24:26])[0] - 8]
    if target != 68 or data[0] != 2 or data[28:34] != mac:
        return None
    options = options_of(data)
    line = '%s yiaddr=%s siaddr=%s server=%s from=%s:%d' % (
        TYPES[options[53][0]], socket.inet_ntoa(data[16:20]), socket.inet_ntoa(data[20:24]),
        socket.inet_ntoa(options[54]), socket.inet_ntoa(packet[12:16]), source)
    if MENU in options.get(43, b'') and options.get(60) == b'PXEClient':
        line += ' boot'
    if data[108]:
        line += ' file=' + data[108:236].split(b'\0')[0].decode()
    return line


def main():
    interface, kind, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
    seconds = float(rest[0]) if rest else 2
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    sock.bind((interface, 3))
    mac = mac_of(sock, interface)
    words = dict(word.split('=') for word in rest[1:] if '=' in word)
    broadcast = 'broadcast' in rest
    packet = frame(message(kind, mac, 1, broadcast))
    to = b'\xff' * 6
    if 'request' in words:
        address, server = words['request'].split(',')
        packet = frame(message(kind, mac, 3, broadcast, [(50, ip(address)), (54, ip(server))]))
    if 'pxe' in words:
        address, server, to = words['pxe'].split(',')
        to = bytes.fromhex(to.replace(':', ''))
        packet = frame(message(kind, mac, 3, False, ciaddr=address), address, server, 4011)
    begun = time.monotonic()
    sock.sendto(packet, (interface, 0x0800, 0, 0, to))
    # To the end, and what came before it: this process may have slept beyond.
    while select.select([sock], [], [], max(0, begun + seconds - time.monotonic()))[0]:
        data, (_, protocol, kind_of, _, _) = sock.recvfrom(2048)
        line = None
        if kind_of == 4:  # our own
            continue
        if protocol == 0x0806 and data[24:28] == bytes([169, 254, 255, 253]):
            line = 'nudge'
        elif protocol == 0x0800:
            line = hear(data, mac)
        if line:
            print('%d %s' % ((time.monotonic() - begun) * 1000, line), flush=True)


main()
