// The MessagePack codec of the official Redis packages.
"use strict";

const notepack = require("notepack.io");

module.exports = {
  // "notepack.encode" {values}: texts of JSON, each as notepack.io writes what JSON.parse reads.
  "notepack.encode": ({ values }) => values.map((v) => notepack.encode(JSON.parse(v))),
  // "notepack.decode" {values}: bytes, each as JSON.stringify writes what notepack.io reads.
  "notepack.decode": ({ values }) => values.map((v) => JSON.stringify(notepack.decode(v))),
};
