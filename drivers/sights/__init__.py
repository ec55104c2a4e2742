"""What raw disks show besides a guest: tables and their copies, metadata of arrays, what stands where it should not."""
