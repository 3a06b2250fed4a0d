// The tus server with its S3 store, parts of the benchmark's size, everything else as it comes.
import { S3Store } from "@tus/s3-store";
import { Server } from "@tus/server";

const server = new Server({
  path: "/files",
  datastore: new S3Store({
    partSize: Number(process.env.PART_SIZE),
    s3ClientConfig: {
      bucket: process.env.S3_BUCKET,
      region: process.env.S3_REGION,
      endpoint: process.env.S3_ENDPOINT,
      forcePathStyle: true,
      credentials: {
        accessKeyId: process.env.S3_ACCESS_KEY_ID,
        secretAccessKey: process.env.S3_SECRET_ACCESS_KEY,
      },
    },
  }),
});
const listening = server.listen({ host: "127.0.0.1", port: 0 }, () => {
  console.log(JSON.stringify({ url: `http://127.0.0.1:${listening.address().port}` }));
});
