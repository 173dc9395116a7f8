//! The figures of a load that are compared.

use super::verdict::Figure;
use crate::result::{LoadResult, Second};

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    RecordsPerSecond,
    RequestsPerSecond,
    ProducedMegabytes,
    ConsumedMegabytes,
    CpuPerRequest,
    CpuPerGb,
    AckP50,
    AckP99,
    AckP999,
    EndToEndP50,
    EndToEndP99,
    EndToEndP999,
    EndToEndP9999,
    FlushesPerSecond,
    FlushWorst,
    WriteWorst,
    WrittenPerByte,
    DeviceReadMegabytes,
    RssMegabytes,
    SlipP99,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::RecordsPerSecond,
        Self::RequestsPerSecond,
        Self::ProducedMegabytes,
        Self::ConsumedMegabytes,
        Self::CpuPerRequest,
        Self::CpuPerGb,
        Self::AckP50,
        Self::AckP99,
        Self::AckP999,
        Self::EndToEndP50,
        Self::EndToEndP99,
        Self::EndToEndP999,
        Self::EndToEndP9999,
        Self::FlushesPerSecond,
        Self::FlushWorst,
        Self::WriteWorst,
        Self::WrittenPerByte,
        Self::DeviceReadMegabytes,
        Self::RssMegabytes,
        Self::SlipP99,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::RecordsPerSecond => "records acknowledged",
            Self::RequestsPerSecond => "requests answered",
            Self::ProducedMegabytes => "produced",
            Self::ConsumedMegabytes => "consumed",
            Self::CpuPerRequest | Self::CpuPerGb => "target's CPU time",
            Self::AckP50 => "ack p50",
            Self::AckP99 => "ack p99",
            Self::AckP999 => "ack p99.9",
            Self::EndToEndP50 => "end to end p50",
            Self::EndToEndP99 => "end to end p99",
            Self::EndToEndP999 => "end to end p99.9",
            Self::EndToEndP9999 => "end to end p99.99",
            Self::FlushesPerSecond => "device flushes",
            Self::FlushWorst => "a device flush in the worst second",
            Self::WriteWorst => "a device write in the worst second",
            Self::WrittenPerByte => "device bytes written for each byte produced",
            Self::DeviceReadMegabytes => "device reads",
            Self::RssMegabytes => "target's resident memory",
            Self::SlipP99 => "send slip p99",
        }
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::RecordsPerSecond => "records/s",
            Self::RequestsPerSecond => "requests/s",
            Self::ProducedMegabytes | Self::ConsumedMegabytes | Self::DeviceReadMegabytes => "MB/s",
            Self::CpuPerRequest => "CPU-µs/request",
            Self::CpuPerGb => "CPU-s/GB",
            Self::FlushesPerSecond => "flushes/s",
            Self::WrittenPerByte => "bytes/byte",
            Self::RssMegabytes => "MB",
            _ => "ms",
        }
    }

    /// Its name and its unit.
    pub fn figure(self) -> Figure<'static> {
        (self.name(), self.unit())
    }

    /// Whether more of it is better.
    pub fn is_more_better(self) -> bool {
        matches!(
            self,
            Self::RecordsPerSecond
                | Self::RequestsPerSecond
                | Self::ProducedMegabytes
                | Self::ConsumedMegabytes
        )
    }

    /// Of a result; `None` if it was not measured, or not by enough samples.
    pub fn of(self, result: &LoadResult) -> Option<f64> {
        let milliseconds = |us: Option<f64>| us.map(|us| us / 1e3);
        let (ack, end_to_end) = (result.ack.as_ref(), result.end_to_end.as_ref());
        let device = result.device.as_ref();
        let broker = result.broker.as_ref();
        match self {
            Self::RecordsPerSecond => Some(result.produced?.records_per_second),
            Self::RequestsPerSecond => Some(result.produced?.requests_per_second),
            Self::ProducedMegabytes => Some(result.produced?.megabytes_per_second),
            Self::ConsumedMegabytes => Some(result.consumed?.megabytes_per_second),
            Self::CpuPerRequest => broker?.cpu_us_per_request,
            Self::CpuPerGb => broker?.cpu_seconds_per_gb,
            Self::AckP50 => milliseconds(ack?.p50_us),
            Self::AckP99 => milliseconds(ack?.p99_us),
            Self::AckP999 => milliseconds(ack?.p99_9_us),
            Self::EndToEndP50 => milliseconds(end_to_end?.p50_us),
            Self::EndToEndP99 => milliseconds(end_to_end?.p99_us),
            Self::EndToEndP999 => milliseconds(end_to_end?.p99_9_us),
            Self::EndToEndP9999 => milliseconds(end_to_end?.p99_99_us),
            Self::FlushesPerSecond => Some(device?.flushes_per_second),
            Self::FlushWorst => device.map(|_| worst(result, |second| second.device_flush_ms)),
            Self::WriteWorst => device.map(|_| worst(result, |second| second.device_write_ms)),
            Self::WrittenPerByte => device?.written_per_produced,
            Self::DeviceReadMegabytes => Some(device?.read_bytes as f64 / 1e6 / result.seconds),
            Self::RssMegabytes => Some(broker?.rss_bytes_max as f64 / 1e6),
            Self::SlipP99 => milliseconds(result.send_slip.as_ref()?.p99_us),
        }
    }
}

/// The largest value of any second.
fn worst(result: &LoadResult, of: fn(&Second) -> f64) -> f64 {
    result.series.iter().map(of).fold(0.0, f64::max)
}
