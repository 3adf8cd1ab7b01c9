//! Derives of the Reprise plugin API. Use them through `reprise_plugin_api`, which documents them.

mod config;
mod state;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// See `reprise_plugin_api::DeviceState`.
#[proc_macro_derive(DeviceState, attributes(state))]
pub fn device_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    state::expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// See `reprise_plugin_api::DeviceConfig`.
#[proc_macro_derive(DeviceConfig, attributes(config))]
pub fn device_config(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    config::expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}
