// Companion as a library in an Express application, which is the least that it can be: without
// its metrics, and without the request log and the sessions that its own command adds.
import { app as companion } from "@uppy/companion";
import express from "express";

const { app } = companion({
  secret: "a-secret-of-the-benchmark",
  filePath: process.env.SCRATCH,
  server: { host: "127.0.0.1", protocol: "http" },
  uploadUrls: ["http://127.0.0.1"],
  corsOrigins: true,
  metrics: false,
  s3: {
    endpoint: process.env.S3_ENDPOINT,
    region: process.env.S3_REGION,
    bucket: process.env.S3_BUCKET,
    key: process.env.S3_ACCESS_KEY_ID,
    secret: process.env.S3_SECRET_ACCESS_KEY,
    forcePathStyle: true,
    expires: 900,
    // Otherwise the SDK binds the checksum of an empty body, and no part is ever taken.
    awsClientOptions: { requestChecksumCalculation: "WHEN_REQUIRED" },
  },
});
const server = express().use(app);
const listening = server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ url: `http://127.0.0.1:${listening.address().port}` }));
});
