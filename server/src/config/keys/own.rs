//! This broker's own keys: few, and right by default.

use super::keys;

keys! {
    "flumen.cache.bytes": Long = "-1", AtLeastOr(16777216, -1);
        "Bytes of memory for the cache of all cores together, at least 4 MiB for each; −1 to take `flumen.cache.fraction`."
    "flumen.cache.fraction": Double = "0.25", Fraction(0.01, 0.9);
        "The cache as a fraction of the memory limit (of the cgroup, or else of the machine)."
    "flumen.cores": Int = "0", Between(0, 256);
        "Cores to run on, one pinned thread each; 0 for every core that this process may use."
    "flumen.fetch.memory.bytes": Long = "-1", AtLeast(-1);
        "Bytes that answers to fetches may hold, on all cores together, until their peers have taken them; −1 for a sixteenth of the memory limit, at least 128 MiB or an eighth of the limit where that is less, and at most 2 GiB. Answers shrink as it is used up, down to 64 KiB or one batch for each connection."
    "flumen.fetch.sendfile.bytes": Int = "2097152", AtLeast(4096);
        "Bytes from which on a piece of a fetch response is sent by sendfile instead of a copy; a piece has 2 MiB at most. Copies cost less where the kernel hands over files page by page; sendfile needs less of the memory's bandwidth."
    "flumen.io.direct": Boolean = "true", Any;
        "Whether data files are read and written by O_DIRECT. `false` is for development, on file systems that cannot."
    "flumen.journal.bytes": Long = "268435456", AtLeast(4194304);
        "Bytes of each core's commit journal, a file that is written over and over. With less a start after a crash under full load is sooner done, and bulk into very many partitions is slower."
}
