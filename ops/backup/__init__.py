"""`orders backup` and `orders restore`: the services' stores and the streams as one folder, and back.

`backup` copies the stores (`store_copies`) and takes snapshots of the streams (`stream_snapshots`) beside the running
system, and lists all files in a manifest (`manifest`). `restore` puts them in place of stopped services.
"""
