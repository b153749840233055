//! platform (being built)
pub mod contract;
#[cfg(feature = "testing")]
pub mod fake;
#[cfg(feature = "testing")]
pub mod faulty;
pub mod http;
pub mod sevenbridges;
