#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Modbus server of the library pymodbus (Debian's 3.0 and 3.8), for tests that want to be understood by somebody else.

As a program: one JSON object as argument (see serve), then commands, a JSON line each on standard input, answered by one JSON line:
  {"do": "get", "unit": 1, "area": "h", "address": 0, "count": 2}      → {"values": [1, 2]}
  {"do": "set", "unit": 1, "area": "h", "address": 0, "values": [1]}   → {}
  {"do": "seen", "unit": 1}                                            → {"seen": [[function code, address, count], …]}, and forgets them
Areas: c coils, d discrete inputs, h holding registers, i input registers."""
import asyncio
import json
import logging
import os
import pathlib
import ssl
import subprocess
import sys
import threading

READS = {"c": 1, "d": 2, "h": 3, "i": 4}
LIMIT_S = 30


class Peer:
    """The server in a process of its own. medium: tcp, udp, serial, tls; framer: socket, rtu, ascii."""

    def __init__(self, medium, framer, port, units, certificate=None):
        """units: {unit id: {area: {address: value}}}; an area holds these addresses alone. port: a number, a path of a line."""
        arg = json.dumps({"medium": medium, "framer": framer, "port": port, "units": units, "certificate": certificate})
        self.process = subprocess.Popen([sys.executable, str(pathlib.Path(__file__)), arg], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self._line() == {"ready": True}

    def _line(self):
        line = self.process.stdout.readline()
        assert line, f"the Modbus server has ended: {self.process.wait(LIMIT_S)}"
        return json.loads(line)

    def ask(self, do, unit=1, **args):
        self.process.stdin.write(json.dumps({"do": do, "unit": unit, **args}) + "\n")
        self.process.stdin.flush()
        return self._line()

    def get(self, area, address, count=1, unit=1):
        return self.ask("get", unit, area=area, address=address, count=count)["values"]

    def set(self, area, address, *values, unit=1):
        self.ask("set", unit, area=area, address=address, values=list(values))

    def seen(self, unit=1):
        """What was read and written since the last time: [(function code, address, count), …]"""
        return [tuple(one) for one in self.ask("seen", unit)["seen"]]

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def refuse_missing_bits():
    """3.8 answers a read of bits that are not there with function code 0, which is no answer to the question."""
    from pymodbus.pdu.bit_message import ReadCoilsRequest
    from pymodbus.pdu.pdu import ExceptionResponse

    given = ReadCoilsRequest.update_datastore

    async def checked(self, context):
        if not context.validate(self.function_code, self.address, self.count):
            return ExceptionResponse(self.function_code, ExceptionResponse.ILLEGAL_ADDRESS)
        return await given(self, context)

    ReadCoilsRequest.update_datastore = checked


def serve(medium, framer, port, units, certificate):
    from pymodbus.datastore import ModbusServerContext, ModbusSlaveContext, ModbusSparseDataBlock

    try:
        from pymodbus.framer import FramerType
        from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer, ModbusUdpServer

        framers, is_old = {name: FramerType(name) for name in ("socket", "rtu", "ascii")}, False
    except ImportError:
        from pymodbus.server.async_io import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer, ModbusUdpServer
        from pymodbus.transaction import ModbusAsciiFramer, ModbusRtuFramer, ModbusSocketFramer

        framers, is_old = {"socket": ModbusSocketFramer, "rtu": ModbusRtuFramer, "ascii": ModbusAsciiFramer}, True

    if not is_old:
        refuse_missing_bits()

    class Noted(ModbusSlaveContext):
        def __init__(self, areas):
            blocks = {name: {int(address) + 1: value for address, value in areas.get(area, {}).items()} or {0: 0}  # it counts from 1
                      for area, name in (("c", "co"), ("d", "di"), ("h", "hr"), ("i", "ir"))}
            super().__init__(**{name: ModbusSparseDataBlock(block) for name, block in blocks.items()})
            self.seen = []

        def getValues(self, fc_as_hex, address, count=1):
            self.seen.append((fc_as_hex, address, count))
            return super().getValues(fc_as_hex, address, count)

        def setValues(self, fc_as_hex, address, values):
            self.seen.append((fc_as_hex, address, len(values)))
            return super().setValues(fc_as_hex, address, values)

    logging.disable(logging.CRITICAL)
    devices = {int(unit): Noted(areas) for unit, areas in units.items()}

    def answer(do, unit, area="h", address=0, count=1, values=()):
        device = devices[unit]
        if do == "seen":
            seen, device.seen = device.seen, []
            return {"seen": seen}
        if do == "set":
            ModbusSlaveContext.setValues(device, READS[area], address, values)
            return {}
        return {"values": [int(value) for value in ModbusSlaveContext.getValues(device, READS[area], address, count)]}

    def commands():
        for line in sys.stdin:
            print(json.dumps(answer(**json.loads(line))), flush=True)
        os._exit(0)  # 3.0 does not end otherwise: its handlers outlive their loop

    async def start():
        context = ModbusServerContext(slaves=devices, single=False)
        common = {"context": context, "framer": framers[framer], "ignore_missing_slaves": True}
        if medium == "serial":
            server = ModbusSerialServer(port=port, baudrate=19200, **common)
        elif medium == "udp":
            server = ModbusUdpServer(address=("127.0.0.1", port), **common)
        elif medium == "tls":
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*certificate)
            server = ModbusTlsServer(address=("127.0.0.1", port), sslctx=tls, **common)
        else:
            server = ModbusTcpServer(address=("127.0.0.1", port), **common)
        if not is_old:
            await server.serve_forever(background=True)  # gives when it listens
        elif medium == "serial":
            await server.start()
        else:
            running = asyncio.ensure_future(server.serve_forever())
            await asyncio.wait([server.serving, running], timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        print(json.dumps({"ready": True}), flush=True)
        threading.Thread(target=commands, daemon=True).start()
        return server  # and is kept

    loop = asyncio.new_event_loop()
    task = loop.create_task(start())
    task.add_done_callback(lambda done: done.exception() and loop.stop())
    loop.run_forever()
    task.result()


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]))
