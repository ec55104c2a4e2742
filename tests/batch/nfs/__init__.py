"""A batch on a real NFS: a machine with the Linux client and servers is started, and each row runs in it (``make matrix``)."""
