"""`orders backup` and `orders restore`: the services' stores and the streams as one folder, and back.

`backup` copies the stores (`store_copies`) and takes snapshots of the streams (`stream_snapshots`) beside the running
system, and lists all files in a manifest (`manifest`). `restore` replaces the data of the stopped services, and of the
bundled broker, stopped too. With NATS_URL it leaves the broker's streams as they are.
"""
