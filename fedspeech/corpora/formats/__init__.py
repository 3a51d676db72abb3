"""The layouts of folders of recordings, a file each: every one lists the same rows."""
