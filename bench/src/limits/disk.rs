//! The disk, past the page cache, by glommio's `DmaFile`: L3 writes, L4 commits, L5 reads. The file is written
//! once before, so that no block is allocated in what is measured.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use glommio::io::DmaFile;
use glommio::{LocalExecutorBuilder, Placement};

use super::work::{Done, Stopwatch, on_core};
use super::{FILE_BYTES, Limit, LimitSettings};
use crate::clock::Moment;
use crate::error::BenchError;
use crate::load::tally::new_histogram;
use crate::result::LatencySummary;

/// Reads and writes under way at once.
const DEPTH: u64 = 4;

/// L3: sequential writes of 128, 256 and 512 KiB.
pub fn write(settings: &LimitSettings) -> Result<Vec<Limit>, BenchError> {
    let mut limits = Vec::new();
    for kilobytes in [128, 256, 512] {
        let done = sequential(settings, kilobytes << 10, true)?;
        limits.push(Limit::of_bytes(
            "L3",
            &format!("O_DIRECT writes of {kilobytes} KiB, {DEPTH} at once"),
            done,
        ));
    }
    Ok(limits)
}

/// L5: sequential reads.
pub fn read(settings: &LimitSettings) -> Result<Vec<Limit>, BenchError> {
    let done = sequential(settings, 512 << 10, false)?;
    Ok(vec![Limit::of_bytes("L5", &format!("O_DIRECT reads of 512 KiB, {DEPTH} at once"), done)])
}

/// L4: one write over what is there, and a flush, one after the other.
pub fn commit(settings: &LimitSettings) -> Result<Vec<Limit>, BenchError> {
    let mut limits = Vec::new();
    for kilobytes in [4, 64] {
        let (path, seconds) = (scratch(settings), settings.seconds);
        let (done, histogram) = on_core(settings.broker_core, || {
            in_executor(async move {
                let file = prepared(&path).await?;
                let mut histogram = new_histogram();
                let size = kilobytes << 10;
                let watch = Stopwatch::start();
                let mut commits = 0;
                while watch.elapsed().as_secs_f64() < seconds {
                    let began = Moment::now();
                    let buffer = file.alloc_dma_buffer(size as usize);
                    file.write_at(buffer, commits * size % FILE_BYTES).await.map_err(wrong)?;
                    file.fdatasync().await.map_err(wrong)?;
                    histogram.saturating_record(Moment::now().nanos_since(began));
                    commits += 1;
                }
                let done = watch.done(commits);
                finish(file).await?;
                Ok((done, histogram))
            })
        })??;
        let what = format!("commits: {kilobytes} KiB over what is there, and a flush");
        let mut limit = Limit::of_requests("L4", &what, done);
        limit.latency = LatencySummary::of(&histogram);
        limits.push(limit);
    }
    Ok(limits)
}

fn sequential(settings: &LimitSettings, size: u64, is_write: bool) -> Result<Done, BenchError> {
    let (path, seconds) = (scratch(settings), settings.seconds);
    on_core(settings.broker_core, || {
        in_executor(async move {
            let file = prepared(&path).await?;
            // What was made for writing cannot be read.
            let file = Rc::new(if is_write { file } else { reopened(file, &path).await? });
            let next = Rc::new(Cell::new(0));
            let watch = Rc::new(Stopwatch::start());
            let tasks: Vec<_> = (0..DEPTH)
                .map(|_| {
                    let (file, next, watch) = (file.clone(), next.clone(), watch.clone());
                    glommio::spawn_local(async move {
                        let mut bytes = 0;
                        while watch.elapsed().as_secs_f64() < seconds {
                            let at = next.replace((next.get() + size) % FILE_BYTES);
                            if is_write {
                                let buffer = file.alloc_dma_buffer(size as usize);
                                bytes += file.write_at(buffer, at).await.map_err(wrong)? as u64;
                            } else {
                                let read = file.read_at_aligned(at, size as usize).await.map_err(wrong)?;
                                bytes += read.len() as u64;
                            }
                        }
                        Ok::<_, BenchError>(bytes)
                    })
                })
                .collect();
            gather(tasks, &watch, file).await
        })
    })?
}

/// Runs on a new executor of the calling thread.
pub fn in_executor<T>(work: impl Future<Output = Result<T, BenchError>>) -> Result<T, BenchError> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .make()
        .map_err(|error| BenchError::Refused(format!("glommio does not start here: {error}")))?;
    executor.run(work)
}

pub fn wrong<T>(error: glommio::GlommioError<T>) -> BenchError {
    BenchError::io("use the disk", error.into())
}

pub fn scratch(settings: &LimitSettings) -> PathBuf {
    settings.data.join(format!("flumen-bench-limits-{}", std::process::id()))
}

/// A file that has all of its blocks, and every one of them written.
pub async fn prepared(path: &PathBuf) -> Result<DmaFile, BenchError> {
    const PIECE_BYTES: u64 = 1 << 20;
    let file = DmaFile::create(path).await.map_err(wrong)?;
    file.pre_allocate(FILE_BYTES, false).await.map_err(wrong)?;
    for at in (0..FILE_BYTES).step_by(PIECE_BYTES as usize) {
        let mut buffer = file.alloc_dma_buffer(PIECE_BYTES as usize);
        buffer.as_bytes_mut().fill(0x5a);
        file.write_at(buffer, at).await.map_err(wrong)?;
    }
    file.fdatasync().await.map_err(wrong)?;
    Ok(file)
}

async fn reopened(file: DmaFile, path: &PathBuf) -> Result<DmaFile, BenchError> {
    file.close().await.map_err(wrong)?;
    DmaFile::open(path).await.map_err(wrong)
}

/// Waits for tasks that tell their bytes, and removes the file that they shared.
pub async fn gather(
    tasks: Vec<glommio::Task<Result<u64, BenchError>>>,
    watch: &Stopwatch,
    file: Rc<DmaFile>,
) -> Result<Done, BenchError> {
    let mut bytes = 0;
    for task in tasks {
        bytes += task.await?;
    }
    let done = watch.done(bytes);
    finish(Rc::into_inner(file).expect("the tasks are done")).await?;
    Ok(done)
}

async fn finish(file: DmaFile) -> Result<(), BenchError> {
    file.remove().await.map_err(wrong)?;
    file.close().await.map_err(wrong)
}
