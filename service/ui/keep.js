// The last file and its estimates in the browser's storage, so that they survive a reload.

export const MOST_BYTES = 64e6;
const NAME = "photoz", KEY = "last";

/** Do something with the store; null where the browser has none, or it is full. */
function inStore(action) {
  return new Promise((resolve) => {
    const opening = indexedDB.open(NAME, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(NAME);
    opening.onerror = () => resolve(null);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction(NAME, "readwrite"), request = action(transaction.objectStore(NAME));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => resolve(null);
      opening.result.close(); // once the transaction has ended
    };
  });
}

export const forget = () => inStore((store) => store.delete(KEY));

export const recall = () => inStore((store) => store.get(KEY));

/** Keep a record in place of the last; returns whether it is kept. */
export async function keep(record) {
  const { source, galaxies } = record, bytes = Object.values(galaxies.columns).reduce((sum, values) => sum + values.byteLength, source.size);
  return bytes <= MOST_BYTES && (await inStore((store) => store.put(record, KEY))) === KEY;
}
