//! Both ends of the links `gpio/1` and `stream/1`, for tests: a bank of lines and a keypad on it, a UART and a modem
//! behind it.
#![forbid(unsafe_code)]

mod bank;
mod keypad;
mod modem;
mod uart;

reprise_plugin_api::export_devices!(bank::Bank, keypad::Keypad, uart::Uart, modem::Modem);
