"""Drives a machine through its control socket with QEMU's own client, and says what it saw: peer.py SOCKET"""
import asyncio
import sys

from qemu.qmp import ExecuteError, QMPClient


async def event(listener, name):
    heard = await asyncio.wait_for(listener.get(), 60)
    assert heard["event"] == name, heard
    return heard


async def main(socket):
    client = QMPClient("tests")
    with client.listener(("STOP", "RESUME", "SHUTDOWN")) as listener:
        await asyncio.wait_for(client.connect(socket), 60)
        print("greeted")
        print((await client.execute("query-status"))["status"])
        await client.execute("stop")
        print((await event(listener, "STOP"))["event"])
        print((await client.execute("query-status"))["status"])
        try:
            await client.execute("no-such-command")
        except ExecuteError as error:
            assert error.error_class == "CommandNotFound", error
        else:
            raise AssertionError("a command that does not exist was executed")
        try:
            # Its error has a member of ours, `x-exit`.
            await client.execute("x-plugin-reload", {"device": "nobody"})
        except ExecuteError as error:
            assert error.error_class == "GenericError" and "no device" in str(error), error
        else:
            raise AssertionError("a device that does not exist was reloaded")
        await client.execute("cont")
        print((await event(listener, "RESUME"))["event"])
        print((await client.execute("query-status"))["status"])
        print(await client.execute("human-monitor-command", {"command-line": "info status"}), end="")
        await client.execute("quit")
        print("SHUTDOWN", (await event(listener, "SHUTDOWN"))["data"]["reason"])
        try:
            await client.disconnect()
        except EOFError:
            pass  # The machine was first.


asyncio.run(main(sys.argv[1]))
